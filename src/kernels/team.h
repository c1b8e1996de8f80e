/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A team: the blocks of one index on all ranks, which together reduce a share of the message. How a kernel begins, how
 * its blocks count, how long they wait.
 *
 * THE COUNTER OF A TEAM is read and written by this rank's kernels alone, one after the other. A launch reads it, adds
 * what it will use, and publishes that before it lets the next kernel of the stream start early; so the next one reads
 * the new value though this one still runs. Since all ranks launch the same kernels in the same order, the counters of
 * a team are the same on all ranks; nothing in them comes from the host, so a captured graph may be replayed at will.
 */
#ifndef OH_KERNELS_TEAM_H
#define OH_KERNELS_TEAM_H

#include "arena/device_layout.h"
#include "kernels/asm.h"

enum {
    OH_PEERS = OH_NRANKS - 1,
    OH_ROOM = OH_PEERS > 0 ? OH_PEERS : 1, /* arrays of one rank alone are not empty */
    OH_LOOKS = 2048                        /* looks between two questions whether to go on waiting */
};

/* Peers are numbered as this rank meets them, 0 ... OH_PEERS-1, so that not all turn to the same one at once. */
OH_DEVICE int oh_peer(int index) { return (OH_RANK + 1 + index) % OH_NRANKS; }
/* The number of rank `source` among the peers of rank `at`. */
OH_DEVICE int oh_peer_index(int source, int at) { return (source - at - 1 + OH_NRANKS) % OH_NRANKS; }

/*
 * Begins a launch that takes `rows` rows of the rings and `barriers` barriers: returns where the team stands. What can
 * be computed before the previous kernel has ended comes between this and oh_wait.
 */
OH_DEVICE oh_counter_t oh_begin(const oh_kernel_args_t &a, oh_u32 rows, oh_u32 barriers) {
    unsigned char *counter = a.workspace[OH_RANK] + blockIdx.x * OH_COUNTER;
    const oh_u64 steps = oh_ld_relaxed_gpu_u64(counter), operations = oh_ld_relaxed_gpu_u64(counter + 8);
    const oh_counter_t now = {(oh_u32)steps, (oh_u32)(steps >> 32), operations};
    __syncthreads(); /* all have read */
    if (threadIdx.x == 0) {
        oh_st_relaxed_gpu_u64(counter, (now.rows + rows) | (oh_u64)(now.barriers + barriers) << 32);
        oh_st_relaxed_gpu_u64(counter + 8, operations + 1);
        oh_fence_gpu();
    }
    return now;
}

/*
 * Waits until the previous kernel has ended, and only then lets the next one start: who did so sooner would let all
 * kernels of a graph come in and wait, as many as the GPU has room for, and their blocks would no longer be spread
 * evenly (bench/NOTES.md).
 */
OH_DEVICE void oh_wait(const oh_kernel_args_t &a, const oh_counter_t &now) {
    oh_wait_for_previous();
    if (threadIdx.x == 0) {
        oh_launch_dependents(); /* this thread speaks for the block */
        if (blockIdx.x == 0) oh_st_relaxed_gpu_u64(a.workspace[OH_RANK] + OH_CURRENT_AT, now.operations + 1);
    }
}

/* ---- waiting ---- */

/*
 * The first thread of this rank to give up tells the host. Who reads: the host's watcher, which acts on `ready`; the
 * claim is never returned, since a communicator that has broken stays so.
 */
OH_DEVICE void oh_report(const oh_kernel_args_t &a, int peer, oh_u32 barrier) {
    if (atomicCAS((oh_u32 *)(a.workspace[OH_RANK] + OH_CLAIM_AT), 0, 1) != 0) return;
    oh_report_t *report = (oh_report_t *)(a.control + OH_REPORT_AT);
    oh_st_relaxed_sys(&report->rank, (oh_u32)peer);
    oh_st_relaxed_sys(&report->team, blockIdx.x);
    oh_st_relaxed_sys(&report->barrier, barrier);
    oh_st_relaxed_sys_u64(&report->operation, oh_ld_relaxed_gpu_u64(a.workspace[OH_RANK] + OH_CURRENT_AT));
    oh_fence_sys();
    oh_st_relaxed_sys(&report->ready, 1);
}

/* How a thread waits: `looks` in vain so far, since when. */
typedef struct oh_patience {
    oh_u32 looks;
    oh_u64 since;
} oh_patience_t;

/* After a look in vain: whether to look again. No longer once the communicator is broken, or the time is up. */
OH_DEVICE bool oh_patient(const oh_kernel_args_t &a, oh_patience_t *patience, int peer, oh_u32 barrier) {
    if (++patience->looks % OH_LOOKS != 0) return true;
    if (oh_ld_relaxed_sys(a.control) != 0) return false; /* the poison of arena/fault.h */
    const oh_u64 now = oh_global_ns();
    if (patience->since == 0) patience->since = now;
    if (now - patience->since < a.timeout_ns) return true;
    oh_report(a, peer, barrier);
    return false;
}

#endif
