/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages and barriers: plain data, of any type and with any content, made known by a barrier of the team.
 *
 * A barrier has a number that only grows, the same on all ranks. Every rank writes it into its word at each peer, and
 * waits until its own words have reached it. Edges: what the threads of a block wrote before the barrier is ordered by
 * __syncthreads before the fence of the thread that signals, then comes its relaxed store, which the peer's thread sees
 * by an acquire load, and __syncthreads again: all that was written before a barrier on any rank is seen after it on
 * all. A word is written by one peer alone, and read by this rank alone; it is never reset.
 *
 * A launch begins with a barrier, that of kernels/direct.h: when it is passed, no rank is in an earlier launch any
 * more, and so nobody reads or writes pages for one.
 */
#ifndef OH_KERNELS_PAGE_H
#define OH_KERNELS_PAGE_H

#define OH_UNIT 16

#include "kernels/element.h"
#include "kernels/team.h"

/* OH_PART, units: a page has room for pieces of this size, as the algorithm says. */
enum { OH_PAGE_UNITS = OH_PAGE_BYTES / OH_UNIT, OH_LINE_UNITS = 128 / OH_UNIT };

/*
 * A step of a team is `parts` parts of the message, one behind the other; steps go round the teams. Their length is the
 * same for all, as even as whole cache lines allow, and at most OH_PART.
 */
OH_DEVICE int oh_part_units(const oh_kernel_args_t &a, int parts) {
    const oh_u64 all = (oh_u64)a.steps * gridDim.x * parts, least = (a.units + all - 1) / all;
    const oh_u64 lines = (least + OH_LINE_UNITS - 1) / OH_LINE_UNITS * OH_LINE_UNITS;
    return lines < OH_PART ? (int)lines : OH_PART;
}

/* The first unit of the team's step i. */
OH_DEVICE oh_u64 oh_step(oh_u32 i, int units) { return ((oh_u64)i * gridDim.x + blockIdx.x) * units; }

/* Unit `index` of rank's page for this team. */
OH_DEVICE oh_packet_t *oh_page(const oh_kernel_args_t &a, int rank, int index) {
    return (oh_packet_t *)(a.workspace[rank] + OH_PAGES_AT) + (oh_u64)blockIdx.x * OH_PAGE_UNITS + index;
}

/* Barrier `number` of the team; false if it was given up. All threads of the block call it. */
OH_DEVICE bool oh_meet(const oh_kernel_args_t &a, oh_u32 number) {
    bool met = true;
    __syncthreads();
    if ((int)threadIdx.x < OH_PEERS) {
        const int peer = oh_peer((int)threadIdx.x);
        unsigned char *theirs = a.workspace[peer] + OH_FLAGS_AT + (OH_RANK * OH_GPU_TEAMS + blockIdx.x) * 4;
        const unsigned char *mine = a.workspace[OH_RANK] + OH_FLAGS_AT + (peer * OH_GPU_TEAMS + blockIdx.x) * 4;
        oh_patience_t patience = {0, 0};
        oh_fence_sys();
        oh_st_relaxed_sys(theirs, number);
        while (met && (int)(oh_ld_acquire_sys(mine) - number) < 0)
            met = oh_patient(a, &patience, peer, OH_REPORT_BARRIER);
    }
    return __syncthreads_and(met);
}

/* The message's unit number `unit`. */
OH_DEVICE oh_packet_t oh_load_at(const oh_kernel_args_t &a, oh_u64 unit) { return oh_load(oh_stretch(a, unit), 0); }
OH_DEVICE void oh_store_at(const oh_kernel_args_t &a, oh_u64 unit, const oh_packet_t &value) {
    oh_store(oh_stretch(a, unit), 0, value);
}

/* The sum over all ranks, in their order. */
OH_DEVICE oh_packet_t oh_reduce_units(const oh_packet_t unit[OH_NRANKS]) {
    oh_sum_t sum;
    oh_sum_begin(&sum, unit[0]);
#pragma unroll
    for (int r = 1; r < OH_NRANKS; r++) oh_sum_add(&sum, unit[r]);
    return oh_sum_end(&sum);
}

/* Of units that lie at from[rank]. */
OH_DEVICE oh_packet_t oh_reduce_from(const oh_packet_t *const from[OH_NRANKS], const oh_packet_t &own) {
    oh_packet_t unit[OH_NRANKS];
#pragma unroll
    for (int r = 0; r < OH_NRANKS; r++) unit[r] = r == OH_RANK ? own : *from[r];
    return oh_reduce_units(unit);
}

#endif
