/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of tuning tables, as `onehop tune` makes it: JSON of the schema onehop-tuning-1. It is taken as a whole or
 * refused as a whole; members that are not known are left alone.
 */
#ifndef OH_SELECT_TUNING_FILE_H
#define OH_SELECT_TUNING_FILE_H

#include "select/table.h"

enum { OH_TUNING_FILE_BYTES = 1 << 20, OH_TUNING_FILE_TABLES = 256, OH_TUNED_NAME = 128, OH_TUNED_BLOCKS_MAX = 65535 };

typedef struct oh_tuned_gpus {
    char gpu[OH_TUNED_NAME];
    oh_links_t links;
    int nranks;
    onehop_dtype_t dtype;
    int max_blocks; /* the bound under which it was measured; 0: none */
    oh_device_table_t table;
} oh_tuned_gpus_t;

typedef struct oh_tuned_hosts {
    int nranks;
    oh_placement_t placement;
    bool registered;
    oh_host_table_t table;
} oh_tuned_hosts_t;

/* No two tables are for the same. */
typedef struct oh_tuning_file {
    bool found; /* there is something under that name */
    char date[OH_TUNED_NAME], host[OH_TUNED_NAME];
    int ngpus, nhosts;
    oh_tuned_gpus_t *gpus; /* in the order of the file */
    oh_tuned_hosts_t *hosts;
} oh_tuning_file_t;

/* INVALID_ARGUMENT names the file, the place in it, what stands there and what was expected. */
onehop_result_t oh_tuning_file_read(const char *path, oh_tuning_file_t *out);

/* The same for what a file holds; `text` ends with a zero, which `bytes` does not count. */
onehop_result_t oh_tuning_file_parse(const char *path, const char *text, size_t bytes, oh_tuning_file_t *out);

/* Frees what a read that went well has given; zeros are allowed. */
void oh_tuning_file_free(oh_tuning_file_t *file);

#endif
