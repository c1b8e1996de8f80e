/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot pull: every rank lays its input on its page; after a barrier it reads its own part on the pages of all
 * others, reduces it, and lays the result on its page; after another it reads the other parts' results.
 *
 * A page has OH_NRANKS parts of input, and one of results. Inputs are written again after the second barrier, which the
 * peers signalled after they had read them; results after the first of the next step, likewise.
 *
 * With registered buffers (kernels/direct.h) inputs and results are read where they are.
 */
#include "kernels/direct.h"

enum { RESULT = OH_NRANKS * OH_PART };

OH_DEVICE bool run_on_pages(const oh_kernel_args_t &a, int part, oh_u32 barrier) {
    for (oh_u32 i = 0; i < a.steps; i++) {
        const oh_u64 first = oh_step(i, OH_NRANKS * part);
        for (int u = (int)threadIdx.x; u < OH_NRANKS * part; u += (int)blockDim.x) {
            if (first + u < a.units) *oh_page(a, OH_RANK, u) = oh_load_at(a, first + u);
        }
        if (!oh_meet(a, ++barrier)) return false;
        for (int u = (int)threadIdx.x; u < part; u += (int)blockDim.x) {
            const int at = OH_RANK * part + u;
            if (first + at >= a.units) continue;
            const oh_packet_t *from[OH_NRANKS];
#pragma unroll
            for (int r = 0; r < OH_NRANKS; r++) from[r] = oh_page(a, r, at);
            const oh_packet_t result = oh_reduce_from(from, *from[OH_RANK]);
            *oh_page(a, OH_RANK, RESULT + u) = result;
            oh_store_at(a, first + at, result);
        }
        if (!oh_meet(a, ++barrier)) return false;
        for (int u = (int)threadIdx.x; u < part; u += (int)blockDim.x) {
#pragma unroll
            for (int p = 0; p < OH_PEERS; p++) {
                const int peer = oh_peer(p);
                const int at = peer * part + u;
                if (first + at < a.units) oh_store_at(a, first + at, *oh_page(a, peer, RESULT + u));
            }
        }
    }
    return true;
}

/*
 * Results are laid into this rank's recvbuf at once. In place that writes over its own part of the input, which it
 * alone reads; the other parts are written after the next barrier, which their owners signalled after they had read
 * them. The barrier at the end: nobody reads this rank's results any more.
 */
OH_DEVICE bool run_directly(const oh_kernel_args_t &a, const oh_buffers_t &b, int part, oh_u32 barrier) {
    for (oh_walk_t walk = oh_walk_begin(part); walk.step < a.steps; oh_walk_on(&walk, part)) {
        const oh_u64 unit = oh_step(walk.step, OH_NRANKS * part) + OH_RANK * part + walk.unit;
        if (unit < a.units) oh_set(a, b.recv[OH_RANK], unit, oh_reduce_inputs(a, b, unit));
    }
    if (!oh_meet(a, ++barrier)) return false;
    for (oh_walk_t walk = oh_walk_begin(part); walk.step < a.steps; oh_walk_on(&walk, part)) {
        const oh_u64 first = oh_step(walk.step, OH_NRANKS * part) + walk.unit;
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            const oh_u64 unit = first + oh_peer(p) * part;
            if (unit < a.units) oh_set(a, b.recv[OH_RANK], unit, oh_get(a, b.recv[oh_peer(p)], unit));
        }
    }
    return oh_meet(a, ++barrier);
}

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    oh_launch(a, 2 * a.steps + 1, OH_NRANKS, true, run_directly, run_on_pages);
}
