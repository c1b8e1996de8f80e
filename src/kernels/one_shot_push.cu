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
    oh_u64 unit; /* the first of this thread; the others follow a block's threads apart */
    oh_u32 left; /* units of the message from there on */
    bool all;    /* take part beyond them too */
    oh_packet_t own[OH_K];
} row_t;

OH_DEVICE bool inside(const row_t *row, int k) { return k * blockDim.x < row->left; }

OH_DEVICE void put_row(const oh_kernel_args_t &a, oh_u32 step, oh_u32 i, row_t *row) {
    row->unit = ((oh_u64)i * gridDim.x + blockIdx.x) * (OH_K * blockDim.x) + threadIdx.x;
    row->left = oh_left(a, row->unit);
    row->all = a.steps > 1;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        row->own[k] = oh_packet_t{{0, 0, 0, 0}};
        if (inside(row, k)) row->own[k] = oh_load_unit(a, row->unit + k * blockDim.x);
    }
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (row->all || inside(row, k)) oh_put_all(a, OH_SCATTER, step, k, oh_seal(row->own[k]));
    }
}

OH_DEVICE bool reduce_row(const oh_kernel_args_t &a, oh_u32 step, const row_t *row) {
    bool present[OH_K][OH_ROOM];
    oh_packet_t packet[OH_K][OH_ROOM];
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        for (int p = 0; p < OH_PEERS; p++) present[k][p] = row->all || inside(row, k);
    }
    if (!oh_take(a, OH_SCATTER, step, present, packet)) return false;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (inside(row, k)) oh_store_unit(a, row->unit + k * blockDim.x, oh_reduce(row->own[k], packet[k]));
    }
    return true;
}

extern "C" __global__ void __launch_bounds__(OH_THREADS) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    const oh_u32 first = oh_begin(a, a.steps, 0).exchanges;
    row_t row;
    put_row(a, first, 0, &row);
    for (oh_u32 i = 0; i + 1 < a.steps; i++) {
        row_t next;
        if (i > 0) oh_fence_sys();
        put_row(a, first + i + 1, i + 1, &next);
        if (!reduce_row(a, first + i, &row)) return;
        row = next;
    }
    reduce_row(a, first + a.steps - 1, &row);
}
