/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot pull: every rank lays its input on its page; after a barrier it reads its own part on the pages of all
 * others, reduces it, and lays the result on its page; after another it reads the other parts' results.
 *
 * A page has OH_NRANKS parts of input, and one of results. Inputs are written again after the second barrier, which the
 * peers signalled after they had read them; results after the first of the next step, likewise.
 */
#include "kernels/page.h"

enum { RESULT = OH_NRANKS * OH_PART };

OH_DEVICE bool run(const oh_kernel_args_t &a, const oh_start_t &now) {
    oh_u32 barrier = now.barriers;
    if (!oh_meet(a, ++barrier)) return false;
    for (oh_u32 i = 0; i < a.steps; i++) {
        const oh_u64 first = ((oh_u64)i * gridDim.x + blockIdx.x) * OH_NRANKS * OH_PART;
        for (int u = (int)threadIdx.x; u < OH_NRANKS * OH_PART; u += (int)blockDim.x) {
            if (first + u < a.units) *oh_page(a, OH_RANK, u) = oh_load_at(a, first + u);
        }
        if (!oh_meet(a, ++barrier)) return false;
        for (int u = (int)threadIdx.x; u < OH_PART; u += (int)blockDim.x) {
            const int at = OH_RANK * OH_PART + u;
            if (first + at >= a.units) continue;
            const oh_packet_t *from[OH_NRANKS];
#pragma unroll
            for (int r = 0; r < OH_NRANKS; r++) from[r] = oh_page(a, r, at);
            const oh_packet_t result = oh_reduce_from(from, *from[OH_RANK]);
            *oh_page(a, OH_RANK, RESULT + u) = result;
            oh_store_at(a, first + at, result);
        }
        if (!oh_meet(a, ++barrier)) return false;
        for (int u = (int)threadIdx.x; u < OH_PART; u += (int)blockDim.x) {
#pragma unroll
            for (int p = 0; p < OH_PEERS; p++) {
                const int peer = oh_peer(p), at = peer * OH_PART + u;
                if (first + at < a.units) oh_store_at(a, first + at, *oh_page(a, peer, RESULT + u));
            }
        }
    }
    return true;
}

extern "C" __global__ void __launch_bounds__(OH_THREADS, 1) onehop_kernel(const __grid_constant__ oh_kernel_args_t a) {
    const oh_start_t now = oh_begin(a, 0, 2 * a.steps + 1);
    oh_wait(a, now);
    oh_end(a, now, run(a, now));
}
