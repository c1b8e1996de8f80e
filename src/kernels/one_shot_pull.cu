/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-shot pull: every rank lays its input on its page, and after a barrier reads the pages of all others and reduces
 * everything itself.
 *
 * A page has two halves, used in turn. A rank writes a half again two steps later, having passed the barrier of the
 * step between, which its peers signalled after they had read that half.
 *
 * With registered buffers (kernels/direct.h) the inputs are read where they are, unless some rank works in place.
 */
#include "kernels/direct.h"

OH_DEVICE bool run_on_pages(const oh_kernel_args_t &a, int part, oh_u32 barrier) {
    for (oh_u32 i = 0; i < a.steps; i++) {
        const oh_u64 first = oh_step(i, part);
        const int half = (int)(i % 2) * OH_PART;
        const int length = first >= a.units ? 0 : (int)(a.units - first < (oh_u64)part ? a.units - first : part);
        for (int u = (int)threadIdx.x; u < length; u += (int)blockDim.x) {
            *oh_page(a, OH_RANK, half + u) = oh_load_at(a, first + u);
        }
        if (!oh_meet(a, ++barrier)) return false;
        for (int u = (int)threadIdx.x; u < length; u += (int)blockDim.x) {
            const oh_packet_t *from[OH_NRANKS];
#pragma unroll
            for (int r = 0; r < OH_NRANKS; r++) from[r] = oh_page(a, r, half + u);
            oh_store_at(a, first + u, oh_reduce_from(from, *from[OH_RANK]));
        }
    }
    return true;
}

/* The barrier at its end: nobody reads this rank's input any more. */
OH_DEVICE bool run_directly(const oh_kernel_args_t &a, const oh_buffers_t &b, int part, oh_u32 barrier) {
    for (oh_walk_t walk = oh_walk_begin(part); walk.step < a.steps; oh_walk_on(&walk, part)) {
        const oh_u64 unit = oh_step(walk.step, part) + walk.unit;
        if (unit < a.units) oh_set(a, b.recv[OH_RANK], unit, oh_reduce_inputs(a, b, unit));
    }
    return oh_meet(a, ++barrier);
}

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    /* In place, a rank would write directly over what others still read. */
    oh_launch(a, a.steps + 1, 1, false, run_directly, run_on_pages);
}
