/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-shot push: every rank puts its input into the mailboxes of all others, and reduces what it finds in its own. One
 * way of the wire; every rank sends its input nranks - 1 times. For small messages, and for all sizes between two
 * ranks, where two-shot would send as much.
 *
 * The message is cut into rows of OH_K * blockDim.x units, which go round the teams. A row is put while the one before
 * it is on its way. In a launch of several steps every thread takes part in every one, beyond the message's end too:
 * that is how its peers know, at the beginning of the next launch, what it has emptied.
 */
#include "kernels/packet.h"

typedef struct row {
    oh_u64 unit[OH_K];
    bool inside[OH_K]; /* the message */
    bool present[OH_K];
    oh_packet_t own[OH_K];
} row_t;

OH_DEVICE void put_row(const oh_kernel_args_t &a, oh_u64 units, bool all, oh_u32 step, oh_u32 i, row_t *row) {
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        row->unit[k] = (((oh_u64)i * gridDim.x + blockIdx.x) * OH_K + k) * blockDim.x + threadIdx.x;
        row->inside[k] = row->unit[k] < units;
        row->present[k] = all || row->inside[k];
        row->own[k] = oh_packet_t{{0, 0, 0, 0}};
        if (row->inside[k]) row->own[k] = oh_load_unit(a, row->unit[k]);
    }
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (row->present[k]) oh_put_all(a, OH_SCATTER, step, k, oh_seal(row->own[k]));
    }
}

OH_DEVICE bool reduce_row(const oh_kernel_args_t &a, oh_u32 step, const row_t *row) {
    bool present[OH_K][OH_ROOM];
    oh_packet_t packet[OH_K][OH_ROOM];
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        for (int p = 0; p < OH_PEERS; p++) present[k][p] = row->present[k];
    }
    if (!oh_take(a, OH_SCATTER, step, present, packet)) return false;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (row->inside[k]) oh_store_unit(a, row->unit[k], oh_reduce(row->own[k], packet[k]));
    }
    return true;
}

extern "C" __global__ void __launch_bounds__(OH_THREADS) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    const oh_u64 units = oh_units(a), round = (oh_u64)OH_K * blockDim.x * gridDim.x;
    const oh_u32 steps = (oh_u32)((units + round - 1) / round);
    const oh_u32 first = oh_begin(a, steps, 0).exchanges;
    const bool all = steps > 1;
    row_t row;
    put_row(a, units, all, first, 0, &row);
    for (oh_u32 i = 0; i + 1 < steps; i++) {
        row_t next;
        if (i > 0) oh_fence_sys();
        put_row(a, units, all, first + i + 1, i + 1, &next);
        if (!reduce_row(a, first + i, &row)) return;
        row = next;
    }
    reduce_row(a, first + steps - 1, &row);
}
