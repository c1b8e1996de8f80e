/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice on GPUs: which algorithm, with how many blocks and threads. A pure function of the question and a table,
 * so that all ranks choose alike.
 */
#ifndef OH_SELECT_DEVICE_H
#define OH_SELECT_DEVICE_H

#include "arena/device_layout.h"
#include "select/table.h"

typedef struct oh_device_algorithm_info {
    const char *name, *description;
    const char *source; /* file of src/kernels */
    bool packets;       /* data travel in packets; else on pages */
    bool parts;         /* every rank reduces a part; else everything */
} oh_device_algorithm_info_t;

extern const oh_device_algorithm_info_t oh_device_algorithms[OH_DEVICE_ALGORITHMS];

/* A launch. */
typedef struct oh_device_plan {
    oh_device_algorithm_t algorithm;
    int packets, threads, blocks; /* as in oh_device_row_t */
    size_t units;                 /* of the message, as the kernel cuts it */
    unsigned steps;               /* of every block */
} oh_device_plan_t;

/* What the configuration forces: "auto"; an algorithm's name; or, for measuring, "name:packets:threads:blocks". */
typedef struct oh_device_forced {
    int algorithm;                /* or -1 */
    int packets, threads, blocks; /* 0: as tuned */
} oh_device_forced_t;

/* INVALID_ARGUMENT for a text that is none of these. */
onehop_result_t oh_device_forced_parse(const char *text, oh_device_forced_t *forced);

typedef struct oh_device_question {
    size_t count;
    onehop_dtype_t dtype;
    onehop_op_t op;
    int nranks;
    int share;      /* ranks on one GPU, which must all fit in it at once */
    int max_blocks; /* 0: no bound */
    oh_device_forced_t forced;
    int teams, ring, slot_packets; /* what the workspace has room for (arena/device_sizes.h) */
    size_t page_bytes;
} oh_device_question_t;

/* `reason`, of onehop_choice_t, receives why; NULL where nobody asks. */
oh_device_plan_t oh_device_select(const oh_device_question_t *question, const oh_device_table_t *table, char *reason);

/* Most blocks that a launch can have. */
int oh_device_blocks_max(const oh_device_question_t *question);

/* Units of a page's pieces: halves, or parts of inputs and results. 0 where data travel in packets. */
size_t oh_device_part_units(oh_device_algorithm_t algorithm, int nranks, size_t page_bytes);

/* Bytes of the message in one unit of work: a packet's load, or 16. */
size_t oh_device_unit_bytes(oh_device_algorithm_t algorithm, onehop_dtype_t dtype, onehop_op_t op);

enum { OH_DEVICE_KERNELS = 16 };
typedef struct oh_device_kernel {
    oh_device_algorithm_t algorithm;
    int packets;
    bool many; /* for launches of several steps, where data travel in packets */
} oh_device_kernel_t;

/* The kernels of messages of all sizes, each once; of the question, `count` does not matter. Returns how many. */
int oh_device_kernels(const oh_device_question_t *question, const oh_device_table_t *table,
                      oh_device_kernel_t kernels[OH_DEVICE_KERNELS]);

/* The kernel of a plan. */
oh_device_kernel_t oh_device_kernel_of(const oh_device_plan_t *plan);

/* Most threads of a block that a kernel is compiled for. */
int oh_device_threads_max(int nranks, int packets, bool many);

#endif
