/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in tuning table for GPUs. Measured on H200 by bench/gpu.py. */
#ifndef OH_SELECT_DEVICE_TABLE_H
#define OH_SELECT_DEVICE_TABLE_H

#include "select/device.h"

typedef struct oh_device_row {
    int nranks; /* to this many ranks; rows are in ascending order */
    size_t from_bytes;
    oh_device_algorithm_t algorithm;
    int packets, threads;
    int blocks; /* at most */
} oh_device_row_t;

extern const oh_device_row_t oh_device_table[];
extern const size_t oh_device_table_rows;

#endif
