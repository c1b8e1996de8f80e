/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tuning tables: from which size on which algorithm, and how it runs. Rows are in ascending order, the first from 0
 * bytes. Plain data, so that rank 0 can give its tables to all.
 */
#ifndef OH_SELECT_TABLE_H
#define OH_SELECT_TABLE_H

#include "plan.h"
#include "topology/topology.h"

enum { OH_TABLE_ROWS = 64, OH_TABLE_NAME = 64, OH_TABLE_FROM_MAX = 1 << 30 };

/* ---- on hosts ---- */

enum { OH_CHUNK_STEP = 4096, OH_CHUNK_MAX = 64 << 20 };

typedef struct oh_host_row {
    size_t from_bytes;
    oh_algorithm_t algorithm;
    size_t chunk_bytes; /* a multiple of OH_CHUNK_STEP; 0 for what cuts nothing */
    bool stream;        /* as in oh_plan_t */
} oh_host_row_t;

typedef struct oh_host_table {
    char name[OH_TABLE_NAME]; /* for people */
    int count;
    oh_host_row_t rows[OH_TABLE_ROWS];
} oh_host_table_t;

/* By placement, and by whether the buffers are registered. */
typedef struct oh_host_tables {
    oh_host_table_t of[OH_PLACEMENTS][2];
} oh_host_tables_t;

/* ---- on GPUs ---- */

typedef enum oh_device_algorithm {
    OH_ONE_SHOT_PUSH,
    OH_TWO_SHOT_PUSH,
    OH_ONE_SHOT_PULL,
    OH_TWO_SHOT_PULL,
    OH_TWO_SHOT_BULK,
    OH_DEVICE_ALGORITHMS
} oh_device_algorithm_t;

enum { OH_DEVICE_PACKETS_MAX = 4, OH_THREADS_STEP = 32, OH_THREADS_MAX = 512 };

typedef struct oh_device_row {
    size_t from_bytes;
    oh_device_algorithm_t algorithm;
    int packets; /* of a thread in one step: 1, 2 or 4; 1 where data do not travel in packets */
    int threads; /* a multiple of OH_THREADS_STEP */
    int blocks;  /* at most */
} oh_device_row_t;

typedef struct oh_device_table {
    char name[OH_TABLE_NAME];
    bool measured; /* with the very type and the bound on blocks that it is for */
    int count;
    oh_device_row_t rows[OH_TABLE_ROWS];
} oh_device_table_t;

#endif
