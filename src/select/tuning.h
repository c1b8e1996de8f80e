/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which tables are in force: of the file that the configuration names, or that lies in the usual place; else those that
 * are built in; else, on GPUs, what the model says. Rank 0 asks, and gives the answer to all.
 */
#ifndef OH_SELECT_TUNING_H
#define OH_SELECT_TUNING_H

#include "base/config.h"
#include "base/dtype.h"
#include "select/table.h"
#include "select/tuning_file.h"

enum { OH_TUNING_TEXT = OH_PATH_MAX + 640 };

/* Plain data, and all that a communicator needs of tables. */
typedef struct oh_host_tuning {
    char text[OH_TUNING_TEXT]; /* what is in force, for people */
    oh_host_tables_t tables;
} oh_host_tuning_t;

typedef struct oh_device_tuning {
    char text[OH_TUNING_TEXT];
    oh_device_table_t tables[OH_DTYPES];
} oh_device_tuning_t;

/* The GPUs of a communicator. */
typedef struct oh_gpu_place {
    const char *gpu; /* what all are; NULL: they differ */
    oh_links_t links;
    int nranks;
    int blocks;     /* most of a launch */
    int max_blocks; /* the bound of the configuration; 0: none that counts */
} oh_gpu_place_t;

/* A file that was named and is refused makes these fail; one in the usual place is left aside, and the text says why.
 */
onehop_result_t oh_tuning_for_hosts(const oh_config_t *config, oh_host_tuning_t *out);
onehop_result_t oh_tuning_for_gpus(const oh_config_t *config, const oh_gpu_place_t *place, oh_device_tuning_t *out);

/* The table of a file; NULL if it has none that fits. */
const oh_host_table_t *oh_tuning_find_hosts(const oh_tuning_file_t *file, int nranks, oh_placement_t placement,
                                            bool registered);
const oh_device_table_t *oh_tuning_find_gpus(const oh_tuning_file_t *file, const oh_gpu_place_t *place,
                                             onehop_dtype_t dtype);

#endif
