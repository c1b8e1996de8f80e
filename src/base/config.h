/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration with every default filled in, from the caller, then the environment, then the built-in value. */
#ifndef OH_BASE_CONFIG_H
#define OH_BASE_CONFIG_H

#include <stdbool.h>

#include "base/address.h"
#include "onehop.h"

enum { OH_WORKSPACE_MIN = 64 * 1024, OH_NAME_MAX = 32, OH_PATH_MAX = 1024 };

/* How GPUs share memory (arena/device_arena.h). */
typedef enum oh_share { OH_SHARE_AUTO, OH_SHARE_VMM, OH_SHARE_IPC, OH_SHARES } oh_share_t;

/* Where tuning tables come from (select/tuning.h). */
typedef enum oh_tuning_source {
    OH_TUNING_BUILT_IN, /* no file */
    OH_TUNING_MODEL,    /* nor the built-in table */
    OH_TUNING_NAMED,    /* a file that somebody named */
    OH_TUNING_USUAL     /* the one in the usual place, if it is there */
} oh_tuning_source_t;

typedef struct oh_config {
    int rank, nranks;
    onehop_device_t device;
    int device_index;
    oh_address_t
        rendezvous; /* text is "" where there is none: the caller's allgather, ranks of one process, one rank */
    onehop_allgather_fn allgather;
    void *allgather_ctx;
    size_t workspace_bytes;
    int timeout_ms;
    int max_blocks;
    int bootstrap_timeout_ms;
    char job[128];
    char algorithm[OH_NAME_MAX];
    oh_share_t memory;
    bool orders_replays;               /* of graphs, and calls, whatever streams they use */
    char cache_directory[OH_PATH_MAX]; /* "": compiled kernels are not kept */
    char nvrtc[OH_PATH_MAX];           /* NVRTC's file; "": wherever it is found */
    oh_tuning_source_t tuning;
    char tuning_file[OH_PATH_MAX];
} oh_config_t;

/*
 * Checks every field; INVALID_ARGUMENT names the field or variable, its value and what was expected. `local` is for
 * ranks of one process: rank and nranks are as given, and no rendezvous is looked for.
 */
onehop_result_t oh_config_resolve(const onehop_config_t *user, int local, oh_config_t *out);

/* "auto", "vmm", "ipc"; NULL for a value that is none. */
const char *oh_share_string(oh_share_t share);

#endif
