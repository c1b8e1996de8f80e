/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-shot pull: every rank lays its input on its page, and after a barrier reads the pages of all others and reduces
 * everything itself.
 *
 * A page has two halves, used in turn. A rank writes a half again two steps later, having passed the barrier of the
 * step between, which its peers signalled after they had read that half.
 */
#include "kernels/page.h"

OH_DEVICE bool run(const oh_kernel_args_t &a, const oh_start_t &now) {
    oh_u32 barrier = now.barriers;
    if (!oh_meet(a, ++barrier)) return false;
    for (oh_u32 i = 0; i < a.steps; i++) {
        const oh_u64 first = ((oh_u64)i * gridDim.x + blockIdx.x) * OH_PART;
        const int half = (int)(i % 2) * OH_PART;
        const int length = first >= a.units ? 0 : (int)(a.units - first < OH_PART ? a.units - first : OH_PART);
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

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    const oh_start_t now = oh_begin(a, 0, a.steps + 1);
    oh_wait(a, now);
    oh_end(a, now, run(a, now));
}
