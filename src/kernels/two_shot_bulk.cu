/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot push with barriers: as two_shot_push, but the parts are written as plain data to the peers' pages, and a
 * barrier says that they have arrived. Full width of the wire for every type and operation.
 *
 * A page has one part from every peer for the owner to reduce (scatter), and one for the result of every peer (gather).
 * Scatter is written again after the second barrier of a step, which its owner signalled after it had reduced; gather
 * after the first barrier of the next step, which its owner signalled after it had taken the results.
 */
#include "kernels/page.h"

enum { GATHER = OH_ROOM * OH_PART };

OH_DEVICE void scatter(const oh_kernel_args_t &a, oh_u64 first) {
    for (int u = (int)threadIdx.x; u < OH_PART; u += (int)blockDim.x) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            const int peer = oh_peer(p);
            const oh_u64 unit = first + peer * OH_PART + u;
            if (unit < a.units) *oh_page(a, peer, oh_peer_index(OH_RANK, peer) * OH_PART + u) = oh_load_at(a, unit);
        }
    }
}

OH_DEVICE void reduce(const oh_kernel_args_t &a, oh_u64 first) {
    for (int u = (int)threadIdx.x; u < OH_PART; u += (int)blockDim.x) {
        const oh_u64 unit = first + OH_RANK * OH_PART + u;
        if (unit >= a.units) continue;
        const oh_packet_t *from[OH_NRANKS];
#pragma unroll
        for (int r = 0; r < OH_NRANKS; r++) {
            from[r] = oh_page(a, OH_RANK, oh_peer_index(r, OH_RANK) % OH_ROOM * OH_PART + u);
        }
        const oh_packet_t result = oh_reduce_from(from, oh_load_at(a, unit));
        oh_store_at(a, unit, result);
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            const int peer = oh_peer(p);
            *oh_page(a, peer, GATHER + oh_peer_index(OH_RANK, peer) * OH_PART + u) = result;
        }
    }
}

OH_DEVICE void gather(const oh_kernel_args_t &a, oh_u64 first) {
    for (int u = (int)threadIdx.x; u < OH_PART; u += (int)blockDim.x) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            const oh_u64 unit = first + oh_peer(p) * OH_PART + u;
            if (unit < a.units) oh_store_at(a, unit, *oh_page(a, OH_RANK, GATHER + p * OH_PART + u));
        }
    }
}

OH_DEVICE bool run(const oh_kernel_args_t &a, const oh_start_t &now) {
    oh_u32 barrier = now.barriers;
    if (!oh_meet(a, ++barrier)) return false;
    for (oh_u32 i = 0; i < a.steps; i++) {
        const oh_u64 first = ((oh_u64)i * gridDim.x + blockIdx.x) * OH_NRANKS * OH_PART;
        scatter(a, first);
        if (!oh_meet(a, ++barrier)) return false;
        reduce(a, first);
        if (!oh_meet(a, ++barrier)) return false;
        gather(a, first);
    }
    return true;
}

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    const oh_start_t now = oh_begin(a, 0, 2 * a.steps + 1);
    oh_wait(a, now);
    oh_end(a, now, run(a, now));
}
