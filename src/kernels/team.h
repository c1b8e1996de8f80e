/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A team: the blocks of one index on all ranks, which together reduce a share of the message. How a kernel begins, how
 * its blocks count, how long they wait.
 *
 * THE COUNTER OF A TEAM is read and written by one warp of this rank's kernels alone, one kernel after the other. It
 * reads it, tells the others of its block, adds what the launch will use, and publishes that before it lets the next
 * kernel of the stream start early; so the next one reads the new value though this one still runs. Since all ranks
 * launch the same kernels in the same order, the counters of a team are the same on all ranks; nothing in them comes
 * from the host, so a captured graph may be replayed at will.
 */
#ifndef OH_KERNELS_TEAM_H
#define OH_KERNELS_TEAM_H

#include "arena/device_layout.h"
#include "kernels/asm.h"

enum {
    OH_PEERS = OH_NRANKS - 1,
    OH_ROOM = OH_PEERS > 0 ? OH_PEERS : 1 /* arrays of one rank alone are not empty */
};

/* Looks between two questions whether to go on waiting; the emulator in tests/ asks sooner. */
#ifndef OH_LOOKS
#define OH_LOOKS 2048
#endif

/* Peers are numbered as this rank meets them, 0 ... OH_PEERS-1, so that not all turn to the same one at once. */
OH_DEVICE int oh_peer(int index) { return (OH_RANK + 1 + index) % OH_NRANKS; }
/* The number of rank `source` among the peers of rank `at`. */
OH_DEVICE int oh_peer_index(int source, int at) { return (source - at - 1 + OH_NRANKS) % OH_NRANKS; }

/* What a launch knows from its beginning. */
typedef struct oh_start {
    oh_u32 rows, barriers; /* where the team stands */
    oh_u64 operation;      /* block 0's count, which alone is in every launch, is the operation's number */
    bool agreed;           /* what this lane has seen of a peer's greeting is what this rank called */
} oh_start_t;

/* ---- greetings ---- */

/*
 * Ranks must call with the same count, dtype and op. Each tells all what it calls, in a packet beside the data and
 * before it waits for any, so that it costs nothing; and looks at what its peers have told it: two operations later,
 * when all have ended that one, or as soon as a thread waits for long. A greeting that has not come, or has been
 * written over, is no disagreement. One is written over four operations later, by who has ended the one before.
 */
OH_DEVICE unsigned char *oh_greeting(const oh_kernel_args_t &a, int owner, int source, oh_u64 operation) {
    return a.workspace[owner] + OH_GREETINGS_AT + (source * OH_GREETINGS + (int)(operation % OH_GREETINGS)) * OH_PACKET;
}

OH_DEVICE bool oh_agree(const oh_kernel_args_t &a, int peer, oh_u64 operation) {
    const oh_packet_t mine = oh_ld_relaxed_sys_packet(oh_greeting(a, OH_RANK, OH_RANK, operation));
    const oh_packet_t theirs = oh_ld_relaxed_sys_packet(oh_greeting(a, OH_RANK, peer, operation));
    const bool same_operation = mine.word[0] == (oh_u32)operation && theirs.word[0] == (oh_u32)operation;
    const bool same =
        mine.word[1] == theirs.word[1] && mine.word[2] == theirs.word[2] && mine.word[3] == theirs.word[3];
    return !same_operation || same;
}

/* ---- a launch ---- */

/* Why a thread of the block has given up: a peer's number and an oh_report_kind_t; whoever wrote last. */
__shared__ oh_u32 oh_reason_peer, oh_reason_kind;

enum { OH_NO_REASON = 99 }; /* the communicator was broken by others */

OH_DEVICE unsigned char *oh_counter(const oh_kernel_args_t &a) {
    return a.workspace[OH_RANK] + blockIdx.x * OH_COUNTER;
}

/*
 * What one warp of a block, the same in every launch, does beside its work or instead of it. First it looks up where
 * the team stands; the others learn of that from it.
 */
OH_DEVICE oh_start_t oh_look_up(const oh_kernel_args_t &a) {
    const unsigned char *counter = oh_counter(a);
    const oh_u64 steps = oh_ld_relaxed_gpu_u64(counter), operations = oh_ld_relaxed_gpu_u64(counter + 8);
    oh_reason_kind = OH_NO_REASON;
    return oh_start_t{(oh_u32)steps, (oh_u32)(steps >> 32), operations + 1, true};
}

/* Then it publishes how many rows of the rings, and how many barriers, the launch takes. */
OH_DEVICE void oh_publish(const oh_kernel_args_t &a, const oh_start_t &now, oh_u32 rows, oh_u32 barriers) {
    unsigned char *counter = oh_counter(a);
    __syncwarp(); /* all lanes have read */
    if (threadIdx.x % 32 != 0) return;
    oh_st_relaxed_gpu_u64(counter, (now.rows + rows) | (oh_u64)(now.barriers + barriers) << 32);
    oh_st_relaxed_gpu_u64(counter + 8, now.operation);
    oh_fence_gpu();
}

/*
 * Then it lets the next kernel start, after oh_wait_for_previous: who did so sooner would let all kernels of a graph
 * come in and wait, as many as the GPU has room for, and their blocks would no longer be spread evenly
 * (bench/NOTES.md).
 */
OH_DEVICE void oh_let_next(const oh_kernel_args_t &a, const oh_start_t &now) {
    if (threadIdx.x % 32 != 0) return;
    oh_launch_dependents(); /* this thread, which has published, speaks for the block */
    if (blockIdx.x == 0) oh_st_relaxed_gpu_u64(a.workspace[OH_RANK] + OH_CURRENT_AT, now.operation);
}

/*
 * And it greets, a lane each rank; where messages are small, after oh_wait_for_previous: what is stored at peers before
 * the previous kernel has ended delays its end (bench/NOTES.md).
 */
OH_DEVICE void oh_greet(const oh_kernel_args_t &a, oh_start_t *now) {
    const int rank = (int)(threadIdx.x % 32);
    const oh_packet_t mine = {{(oh_u32)now->operation, a.what, (oh_u32)a.count, (oh_u32)(a.count >> 32)}};
    if (blockIdx.x != 0 || rank >= OH_NRANKS) return;
    oh_st_relaxed_sys_packet(oh_greeting(a, rank, OH_RANK, now->operation), mine);
    now->agreed = oh_agree(a, rank, now->operation - 2);
}

/* The operation under way; the one before it if block 0 has not come so far. */
OH_DEVICE oh_u64 oh_current(const oh_kernel_args_t &a) {
    return oh_ld_relaxed_gpu_u64(a.workspace[OH_RANK] + OH_CURRENT_AT);
}

/* Who holds up the operation: a rank that has not greeted, for which `peer` may be waiting as well; else `peer`. */
OH_DEVICE int oh_absent(const oh_kernel_args_t &a, int peer, oh_u64 operation) {
    int absent = peer;
    for (int r = OH_NRANKS - 1; r >= 0; r--) {
        if (oh_ld_relaxed_sys_packet(oh_greeting(a, OH_RANK, r, operation)).word[0] != (oh_u32)operation) absent = r;
    }
    return absent;
}

/* ---- what goes wrong ---- */

/*
 * The first thread of this rank that has something to tell tells it the host. Who reads: the host's watcher, which acts
 * on `ready`; the claim is never returned, since a communicator that has broken stays so.
 */
OH_DEVICE void oh_tell(const oh_kernel_args_t &a, oh_u32 kind, int peer, oh_u64 operation) {
    if (atomicCAS((oh_u32 *)(a.workspace[OH_RANK] + OH_CLAIM_AT), 0, 1) != 0) return;
    const oh_packet_t mine = oh_ld_relaxed_sys_packet(oh_greeting(a, OH_RANK, OH_RANK, operation));
    const oh_packet_t theirs = oh_ld_relaxed_sys_packet(oh_greeting(a, OH_RANK, peer, operation));
    oh_report_t *report = (oh_report_t *)(a.control + OH_REPORT_AT);
    oh_st_relaxed_sys(&report->kind, kind);
    oh_st_relaxed_sys(&report->rank, (oh_u32)peer);
    oh_st_relaxed_sys_u64(&report->operation, operation);
#pragma unroll
    for (int w = 0; w < 4; w++) {
        oh_st_relaxed_sys((oh_u32 *)&report->mine + w, mine.word[w]);
        oh_st_relaxed_sys((oh_u32 *)&report->theirs + w, theirs.word[w]);
    }
    oh_fence_sys();
    oh_st_relaxed_sys(&report->ready, 1);
}

/* A thread that gave up, and has seen why. */
OH_DEVICE void oh_tell_reason(const oh_kernel_args_t &a) {
    const oh_u32 kind = oh_reason_kind;
    const int peer = (int)oh_reason_peer;
    const oh_u64 operation = oh_current(a);
    if (kind == OH_NO_REASON) return;
    oh_tell(a, kind, kind == OH_REPORT_MISMATCH ? peer : oh_absent(a, peer, operation), operation);
}

/* A lane that greeted. */
OH_DEVICE void oh_tell_mismatch(const oh_kernel_args_t &a, const oh_start_t &now) {
    if (!now.agreed) oh_tell(a, OH_REPORT_MISMATCH, (int)(threadIdx.x % 32), now.operation - 2);
}

/* ---- waiting ---- */

/* How a thread waits: `looks` in vain so far, since when. */
typedef struct oh_patience {
    oh_u32 looks;
    oh_u64 since;
} oh_patience_t;

/*
 * After a look in vain: whether to look again. No longer once the communicator is broken, the peer is seen to have
 * called something else, or the time is up.
 */
OH_DEVICE bool oh_patient(const oh_kernel_args_t &a, oh_patience_t *patience, int peer, oh_u32 kind) {
    if (++patience->looks % OH_LOOKS != 0) return true;
    if (oh_ld_relaxed_sys(a.control) != 0) return false; /* the poison of arena/fault.h */
    const oh_u64 time = oh_global_ns();
    if (patience->since == 0) patience->since = time;
    const bool agreed = oh_agree(a, peer, oh_current(a));
    if (agreed && time - patience->since < a.timeout_ns) return true;
    oh_reason_peer = (oh_u32)peer;
    oh_reason_kind = agreed ? kind : (oh_u32)OH_REPORT_MISMATCH;
    return false;
}

#endif
