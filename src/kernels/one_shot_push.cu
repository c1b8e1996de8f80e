/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-shot push: every rank puts its input into the mailboxes of all others, and reduces what it finds in its own. One
 * way of the wire; every rank sends its input nranks - 1 times. For small messages, and for all sizes between two
 * ranks, where two-shot would send as much.
 *
 * The message is cut into pieces of OH_K units a thread, which go round the teams. A piece is put while the one before
 * it is on its way.
 */
#define OH_GENTLE OH_MANY
#define OH_AHEAD  0
#include "kernels/packet.h"

typedef struct piece {
    oh_stretch_t stretch;
    oh_rows_t rows;
    oh_packet_t own[OH_K];
} piece_t;

OH_DEVICE oh_stretch_t find_piece(const oh_kernel_args_t &a, oh_u32 i) {
    return oh_stretch(a, ((oh_u64)i * gridDim.x + blockIdx.x) * (OH_K * oh_workers()) + threadIdx.x);
}

OH_DEVICE bool inside(const piece_t *piece, int k) { return k * oh_workers() < piece->stretch.left; }

OH_DEVICE void load_piece(piece_t *piece) {
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (inside(piece, k)) piece->own[k] = oh_load(piece->stretch, k * oh_workers());
    }
}

OH_DEVICE void put_piece(const oh_kernel_args_t &a, const piece_t *piece) {
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (inside(piece, k)) oh_put_all(a, piece->rows.at[k], oh_seal(piece->own[k]));
    }
}

/* Unit k, of which all has come. */
OH_DEVICE void reduce_unit(const oh_kernel_args_t &a, const piece_t *piece, int k, oh_inbox_t *in) {
    oh_store(piece->stretch, k * oh_workers(), oh_reduce(piece->own[k], in->packet[k]));
    oh_empty_row(a, piece->rows, in, k);
#pragma unroll
    for (int p = 0; p < OH_ROOM; p++) in->present[k][p] = false;
}

/* Units are reduced as they come, while others are on their way. */
OH_DEVICE bool reduce_piece(const oh_kernel_args_t &a, const piece_t *piece) {
    oh_patience_t patience = {0, 0};
    oh_inbox_t in;
    int missing;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        for (int p = 0; p < OH_ROOM; p++) {
            in.present[k][p] = inside(piece, k);
            in.packet[k][p] = oh_packet_t{{0, 0, 0, OH_EMPTY}};
        }
    }
    if (OH_GENTLE && !oh_wait_for_first(a, piece->rows, &in)) return false;
    do {
#pragma unroll
        for (int k = 0; k < OH_K; k++) {
            if (in.present[k][0] && oh_row_has_come(&in, k)) reduce_unit(a, piece, k, &in);
        }
        missing = oh_look_again(a, piece->rows, &in);
    } while (missing >= 0 && oh_patient(a, &patience, oh_peer(missing), OH_REPORT_DATA));
    return OH_GENTLE ? __all_sync(0xffffffffu, missing < 0) : missing < 0;
}

OH_DEVICE bool run(const oh_kernel_args_t &a) {
    piece_t piece;
    piece.stretch = find_piece(a, 0);
    oh_expect(piece.stretch);
    oh_wait_for_previous();
    load_piece(&piece);
    const oh_u32 first = oh_first_row();
    piece.rows = oh_rows(OH_SCATTER, first);
    put_piece(a, &piece);
#if OH_MANY
    for (oh_u32 i = 0; i < a.steps; i++) {
        piece_t next;
        if (i + 1 < a.steps) {
            next.stretch = find_piece(a, i + 1);
            next.rows = oh_rows(OH_SCATTER, first + (i + 1) * OH_K);
            if (!oh_wait_for_credit(a, first, i)) return false;
            load_piece(&next);
            put_piece(a, &next);
        }
        if (!reduce_piece(a, &piece)) return false;
        oh_done(i);
        piece = next;
    }
    return oh_wait_for_credit(a, first, a.steps);
#else
    return reduce_piece(a, &piece);
#endif
}

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    oh_launch(a, run);
}
