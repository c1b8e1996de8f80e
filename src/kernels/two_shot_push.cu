/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot push: a piece of the message has a part for every rank. Every rank scatters the parts of the others into
 * their mailboxes, reduces its own from what it finds in its own, and puts the result into all mailboxes; every rank
 * then takes the finished parts. Two ways of the wire; every rank sends 2 (nranks - 1) / nranks of the message.
 *
 * A part is OH_K units a thread; pieces go round the teams. Three are under way at once (scatter i+1, reduce i, gather
 * i-1), so that the wire is busy both ways.
 */
#define OH_GENTLE 1
/* Where registers hold what comes of it. */
#define OH_AHEAD (OH_MANY && OH_WHOLE && OH_K * OH_PEERS <= 2)
#include "kernels/packet.h"

typedef struct piece {
    oh_stretch_t stretch;
    oh_rows_t scatter, gather;
} piece_t;

OH_DEVICE oh_stretch_t find_stretch(const oh_kernel_args_t &a, oh_u32 i) {
    const oh_u64 each = OH_NRANKS * OH_K * oh_workers();
    return oh_stretch(a, ((oh_u64)i * gridDim.x + blockIdx.x) * each + threadIdx.x);
}

OH_DEVICE piece_t find_piece(const oh_kernel_args_t &a, oh_u32 first, oh_u32 i) {
    piece_t piece = {find_stretch(a, i), oh_rows(OH_SCATTER, first + i * OH_K), oh_rows(OH_GATHER, first + i * OH_K)};
    return piece;
}

/* Where this thread's unit k of rank owner's part lies in the stretch. */
OH_DEVICE oh_u32 offset(int owner, int k) { return (owner * OH_K + k) * oh_workers(); }

OH_DEVICE bool inside(const oh_stretch_t &stretch, int owner, int k) { return offset(owner, k) < stretch.left; }

/* The parts of the other ranks, on their way from the message to the mailboxes. */
typedef struct parts {
    oh_packet_t packet[OH_K][OH_ROOM];
} parts_t;

OH_DEVICE void load_parts(const oh_stretch_t &stretch, parts_t *parts) {
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (inside(stretch, oh_peer(p), k)) parts->packet[k][p] = oh_load(stretch, offset(oh_peer(p), k));
        }
    }
}

OH_DEVICE void put_parts(const oh_kernel_args_t &a, const piece_t &piece, const parts_t &parts) {
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (!inside(piece.stretch, oh_peer(p), k)) continue;
            oh_put(a, oh_peer(p), piece.scatter.at[k], oh_seal(parts.packet[k][p]));
        }
    }
}

OH_DEVICE oh_inbox_t open_scattered(const oh_kernel_args_t &a, const piece_t &piece) {
    oh_inbox_t in;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        for (int p = 0; p < OH_ROOM; p++) in.present[k][p] = inside(piece.stretch, OH_RANK, k);
    }
    if (OH_AHEAD) oh_look(a, piece.scatter, &in);
    return in;
}

OH_DEVICE oh_inbox_t open_gathered(const oh_kernel_args_t &a, const piece_t &piece) {
    oh_inbox_t in;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        for (int p = 0; p < OH_PEERS; p++) in.present[k][p] = inside(piece.stretch, oh_peer(p), k);
    }
    if (OH_AHEAD) oh_look(a, piece.gather, &in);
    return in;
}

/* This rank's part of a piece. */
typedef struct own {
    oh_packet_t packet[OH_K];
} own_t;

OH_DEVICE own_t load_own(const oh_stretch_t &stretch) {
    own_t own;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (inside(stretch, OH_RANK, k)) own.packet[k] = oh_load(stretch, offset(OH_RANK, k));
    }
    return own;
}

OH_DEVICE bool reduce(const oh_kernel_args_t &a, const piece_t &piece, const own_t &own, oh_inbox_t *in) {
    if (!oh_take(a, piece.scatter, in)) return false;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (!in->present[k][0]) continue;
        const oh_packet_t result = oh_reduce(own.packet[k], in->packet[k]);
        oh_put_all(a, piece.gather.at[k], oh_seal(result));
        oh_store(piece.stretch, offset(OH_RANK, k), result);
    }
    oh_empty(a, piece.scatter, in);
    return true;
}

OH_DEVICE bool gather(const oh_kernel_args_t &a, const piece_t &piece, oh_inbox_t *in) {
    if (!oh_take(a, piece.gather, in)) return false;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (in->present[k][p]) oh_store(piece.stretch, offset(oh_peer(p), k), in->packet[k][p]);
        }
    }
    oh_empty(a, piece.gather, in);
    return true;
}

#if OH_MANY
/* In turn i: scatter i, reduce i-1, gather i-2. What comes from memory is asked for ahead. */
OH_DEVICE bool run_turns(const oh_kernel_args_t &a, oh_u32 first, parts_t *parts) {
    own_t own, next_own;
    for (oh_u32 i = 0; i < a.steps + 2; i++) {
        const bool scatters = i < a.steps;
        const bool reduces = i > 0 && i <= a.steps;
        const bool gathers = i > 1;
        oh_inbox_t scattered, gathered;
        if (reduces) scattered = open_scattered(a, find_piece(a, first, i - 1));
        if (gathers) gathered = open_gathered(a, find_piece(a, first, i - 2));
        if (i > 0 && !oh_wait_for_credit(a, first, i - 1)) return false;
        if (scatters) {
            put_parts(a, find_piece(a, first, i), *parts);
            next_own = load_own(find_stretch(a, i));
            if (i + 1 < a.steps) load_parts(find_stretch(a, i + 1), parts);
        }
        if (reduces && !reduce(a, find_piece(a, first, i - 1), own, &scattered)) return false;
        if (gathers && !gather(a, find_piece(a, first, i - 2), &gathered)) return false;
        if (reduces) oh_done(i - 1);
        own = next_own;
    }
    return true;
}
#else
OH_DEVICE bool run_once(const oh_kernel_args_t &a, oh_u32 first, const parts_t &parts) {
    const piece_t piece = find_piece(a, first, 0);
    put_parts(a, piece, parts);
    const own_t own = load_own(piece.stretch);
    oh_inbox_t scattered = open_scattered(a, piece), gathered = open_gathered(a, piece);
    return reduce(a, piece, own, &scattered) && gather(a, piece, &gathered);
}
#endif

OH_DEVICE bool run(const oh_kernel_args_t &a) {
    parts_t parts;
    const oh_stretch_t stretch = find_stretch(a, 0);
    oh_expect(stretch);
    oh_wait_for_previous();
    load_parts(stretch, &parts);
    const oh_u32 first = oh_first_row();
#if OH_MANY
    return run_turns(a, first, &parts);
#else
    return run_once(a, first, parts);
#endif
}

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    oh_launch(a, run);
}
