/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot push: a piece of the message has a part for every rank. Every rank scatters the parts of the others into
 * their mailboxes, reduces its own from what it finds in its own, and puts the result into all mailboxes; every rank
 * then takes the finished parts. Two ways of the wire; every rank sends 2 (nranks - 1) / nranks of the message.
 *
 * A piece is OH_NRANKS parts of OH_K * blockDim.x units; pieces go round the teams. Three are under way at once
 * (scatter i+1, reduce i, gather i-1), so that the wire is busy both ways.
 */
#include "kernels/packet.h"

/* This thread's units of a piece: rank `owner`'s number k is first + offset(owner, k), if that is less than left. */
typedef struct piece {
    oh_u64 first;
    oh_u32 left;
} piece_t;

OH_DEVICE piece_t piece_of(const oh_kernel_args_t &a, oh_u32 i) {
    const oh_u64 first = ((oh_u64)i * gridDim.x + blockIdx.x) * (OH_NRANKS * OH_K * blockDim.x) + threadIdx.x;
    return piece_t{first, oh_left(a, first)};
}

OH_DEVICE oh_u32 offset(int owner, int k) { return (owner * OH_K + k) * blockDim.x; }

OH_DEVICE void scatter(const oh_kernel_args_t &a, oh_u32 step, oh_u32 i) {
    const piece_t piece = piece_of(a, i);
    oh_packet_t packet[OH_K][OH_ROOM];
#pragma unroll
    for (int p = 0; p < OH_PEERS; p++) {
#pragma unroll
        for (int k = 0; k < OH_K; k++) {
            const oh_u32 at = offset(oh_peer(p), k);
            if (at < piece.left) packet[k][p] = oh_load_unit(a, piece.first + at);
        }
    }
#pragma unroll
    for (int p = 0; p < OH_PEERS; p++) {
        const int peer = oh_peer(p);
#pragma unroll
        for (int k = 0; k < OH_K; k++) {
            if (offset(peer, k) >= piece.left) continue;
            unsigned char *place = oh_place_of(oh_place(a, peer, OH_SCATTER, step, oh_peer_index(OH_RANK, peer)), k);
            oh_st_relaxed_sys_packet(place, oh_seal(packet[k][p]));
        }
    }
}

OH_DEVICE bool reduce(const oh_kernel_args_t &a, oh_u32 step, oh_u32 i) {
    const piece_t piece = piece_of(a, i);
    bool present[OH_K][OH_ROOM];
    oh_packet_t own[OH_K], packet[OH_K][OH_ROOM];
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        const oh_u32 at = offset(OH_RANK, k);
        for (int p = 0; p < OH_ROOM; p++) present[k][p] = at < piece.left;
        if (at < piece.left) own[k] = oh_load_unit(a, piece.first + at);
    }
    if (!oh_take(a, OH_SCATTER, step, present, packet)) return false;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        if (!present[k][0]) continue;
        const oh_packet_t result = oh_reduce(own[k], packet[k]);
        oh_put_all(a, OH_GATHER, step, k, oh_seal(result));
        oh_store_unit(a, piece.first + offset(OH_RANK, k), result);
    }
    return true;
}

OH_DEVICE bool gather(const oh_kernel_args_t &a, oh_u32 step, oh_u32 i) {
    const piece_t piece = piece_of(a, i);
    bool present[OH_K][OH_ROOM];
    oh_packet_t packet[OH_K][OH_ROOM];
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        for (int p = 0; p < OH_PEERS; p++) present[k][p] = offset(oh_peer(p), k) < piece.left;
    }
    if (!oh_take(a, OH_GATHER, step, present, packet)) return false;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (present[k][p]) oh_store_unit(a, piece.first + offset(oh_peer(p), k), packet[k][p]);
        }
    }
    return true;
}

extern "C" __global__ void __launch_bounds__(OH_THREADS) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    const oh_u32 first = oh_begin(a, a.steps, 0).exchanges;
    scatter(a, first, 0);
    for (oh_u32 i = 0; i < a.steps; i++) {
        if (i > 0) oh_fence_sys();
        if (i + 1 < a.steps) scatter(a, first + i + 1, i + 1);
        if (!reduce(a, first + i, i)) return;
        if (i > 0 && !gather(a, first + i - 1, i - 1)) return;
    }
    gather(a, first + a.steps - 1, a.steps - 1);
}
