/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot push with barriers: as two_shot_push, but the parts are written as plain data to the peers' pages, and a
 * barrier says that they have arrived. Full width of the wire for every type and operation.
 *
 * A page has one part from every peer for the owner to reduce (scatter), and one for the result of every peer (gather).
 * Scatter is written again after the second barrier of a step, which its owner signalled after it had reduced; gather
 * after the first barrier of the next step, which its owner signalled after it had taken the results.
 *
 * With registered buffers (kernels/direct.h) inputs are read where they are, and results written where they belong.
 */
#include "kernels/direct.h"

enum { GATHER = OH_ROOM * OH_PART };

OH_DEVICE void scatter(const oh_kernel_args_t &a, oh_u64 first, int part) {
    for (int u = (int)threadIdx.x; u < part; u += (int)blockDim.x) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            const int peer = oh_peer(p);
            const oh_u64 unit = first + peer * part + u;
            if (unit < a.units) *oh_page(a, peer, oh_peer_index(OH_RANK, peer) * part + u) = oh_load_at(a, unit);
        }
    }
}

OH_DEVICE void reduce(const oh_kernel_args_t &a, oh_u64 first, int part) {
    for (int u = (int)threadIdx.x; u < part; u += (int)blockDim.x) {
        const oh_u64 unit = first + OH_RANK * part + u;
        if (unit >= a.units) continue;
        const oh_packet_t *from[OH_NRANKS];
#pragma unroll
        for (int r = 0; r < OH_NRANKS; r++) {
            from[r] = oh_page(a, OH_RANK, oh_peer_index(r, OH_RANK) % OH_ROOM * part + u);
        }
        const oh_packet_t result = oh_reduce_from(from, oh_load_at(a, unit));
        oh_store_at(a, unit, result);
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            const int peer = oh_peer(p);
            *oh_page(a, peer, GATHER + oh_peer_index(OH_RANK, peer) * part + u) = result;
        }
    }
}

OH_DEVICE void gather(const oh_kernel_args_t &a, oh_u64 first, int part) {
    for (int u = (int)threadIdx.x; u < part; u += (int)blockDim.x) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            const oh_u64 unit = first + oh_peer(p) * part + u;
            if (unit < a.units) oh_store_at(a, unit, *oh_page(a, OH_RANK, GATHER + p * part + u));
        }
    }
}

OH_DEVICE bool run_on_pages(const oh_kernel_args_t &a, int part, oh_u32 barrier) {
    for (oh_u32 i = 0; i < a.steps; i++) {
        const oh_u64 first = oh_step(i, OH_NRANKS * part);
        scatter(a, first, part);
        if (!oh_meet(a, ++barrier)) return false;
        reduce(a, first, part);
        if (!oh_meet(a, ++barrier)) return false;
        gather(a, first, part);
    }
    return true;
}

/*
 * Nothing has to be scattered, and the results go where they belong. In place, a part is written by its owner, which
 * alone reads it, and a thread reads a unit on all ranks before it writes it. The barrier at the end: all results have
 * come, and nobody reads this rank's input any more.
 */
OH_DEVICE bool run_directly(const oh_kernel_args_t &a, const oh_buffers_t &b, int part, oh_u32 barrier) {
    for (oh_walk_t walk = oh_walk_begin(part); walk.step < a.steps; oh_walk_on(&walk, part)) {
        const oh_u64 unit = oh_step(walk.step, OH_NRANKS * part) + OH_RANK * part + walk.unit;
        if (unit >= a.units) continue;
        const oh_packet_t result = oh_reduce_inputs(a, b, unit);
        oh_set(a, b.recv[OH_RANK], unit, result);
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) oh_set(a, b.recv[oh_peer(p)], unit, result);
    }
    return oh_meet(a, ++barrier);
}

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    oh_launch(a, 2 * a.steps + 1, OH_NRANKS, true, run_directly, run_on_pages);
}
