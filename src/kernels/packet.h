/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets: 16 bytes of data that say themselves that they have arrived. No flags, no barriers, no second round trip.
 *
 * A packet is written and read by single accesses of 128 bits, so it is seen whole or not at all. A place that holds no
 * packet is *empty*: its last word is OH_EMPTY. Data must not look like that:
 *
 *   sums of floats     A packet is 16 bytes of the message. OH_EMPTY is the upper half of -0 of fp64, -0 of fp32, and
 *                      (+0, -0) of 16-bit floats. A sum starts from +0, to which -0 and +0 are the same, so the sender
 *                      may replace that one pattern by zeros.
 *   all else           A packet is 12 bytes of the message, or 8 for elements of 8 bytes; the last word says it is
 * full.
 *
 * ROWS. A row is one place for every thread and peer. A team's rows are counted on, over all launches, and row x lies
 * in slot x % OH_RING of its ring. In row x every thread puts packets into the peers' mailboxes, and takes those that
 * the peers' threads of the same number put into its own; taking empties the place. A step uses OH_K rows. Why is a
 * place empty when the next packet arrives in it, OH_RING rows later?
 *
 *   Between launches. A rank puts nothing before its previous kernel has ended (griddepcontrol.wait, or the order of
 *   the stream), hence has emptied all that the kernel was sent. So whoever takes a packet of a launch knows that its
 *   sender has emptied the rows of all earlier launches; and so does who has ended a launch, of all launches before it,
 *   since it took packets of every rank, or of one that had. What a rank puts *blindly*, before it has taken anything
 *   in a launch, must therefore not lie over rows of the last launch that peers may not have emptied. Both are at most
 *   half a ring: a launch of one step has OH_K <= OH_RING / 2 rows; a launch of several, with OH_K <= OH_RING / 4, puts
 *   two steps blindly, and does not end before its peers have done all steps but the last two.
 *
 *   Within a launch of several steps: credits, which the block's keeper gives. Step i of its workers is: wait
 *   for credit i-2; put(i+1); take(i), emptying it; in a two-shot, put the results of i, and take(i-1) from the other
 *   ring; count itself done. When all warps of the block have done step i, the keeper fences, and writes i+1 as this
 *   rank's credit at every peer. Step i+1 lies over i-3, and results i over i-4.
 *
 *   A thread may look at places long before it waits for their packets (OH_AHEAD): it was the one that emptied them, so
 *   it sees them empty, or the packet that it will take.
 *
 *   Edges: a warp's emptying stores, its barrier and its releasing count; the keeper's acquiring look at the count, its
 *   fence and relaxed store; the peer's acquiring look at the credit, its warp's barrier, its puts. Who fences has no
 *   packets of its own on the wire, so nobody waits for packets to be acknowledged; that is what credits are for. They
 *   order the emptying stores, which are relaxed: in the plain order of the program no warp could come so far ahead of
 *   its peers that credits mattered.
 *
 *   Warps are counted for each step apart (the least of what they have done matters, not the sum), in five counts used
 *   in turn: who has done step i+5, even if it had no packets in that one, has taken those of step i+4, which their
 *   sender put after it had this rank's credit i+1, which the keeper wrote when it had seen the count of step i.
 *
 * tests/model/gpu.pml checks rows and credits with Spin.
 */
#ifndef OH_KERNELS_PACKET_H
#define OH_KERNELS_PACKET_H

/* Includers say whether they look gently, OH_GENTLE (oh_wait_for_first), and ahead of time, OH_AHEAD (oh_take). */

/* OH_UNIT: bytes of the message in a packet. */
#define OH_SENTINEL (OH_DTYPE <= 3 && (OH_OP == 0 || OH_OP == 4))
#if OH_SENTINEL
#define OH_UNIT 16
#elif OH_DTYPE >= 8 || OH_DTYPE == 3
#define OH_UNIT 8
#else
#define OH_UNIT 12
#endif

#include "kernels/element.h"
#include "kernels/team.h"

/* The data of a message as a packet. */
OH_DEVICE oh_packet_t oh_seal(oh_packet_t unit) {
    if (!OH_SENTINEL) unit.word[3] = 1;
    const bool looks_empty = unit.word[3] == OH_EMPTY && (OH_DTYPE != OH_FLOAT64 || unit.word[2] == 0);
    if (OH_SENTINEL && looks_empty) unit.word[3] = 0;
    return unit;
}

OH_DEVICE bool oh_full(const oh_packet_t &packet) {
    return packet.word[3] != OH_EMPTY || (OH_SENTINEL && OH_DTYPE == OH_FLOAT64 && packet.word[2] != 0);
}

/* Threads of a block that have packets; those behind them are its keeper. */
OH_DEVICE oh_u32 oh_workers(void) { return blockDim.x - OH_KEEPER; }

/* ---- places ---- */

/* Places of one thread in the rows of a step, as offsets in any rank's workspace; those of peer 0. */
typedef struct oh_rows {
    oh_u64 at[OH_K];
} oh_rows_t;

OH_DEVICE oh_rows_t oh_rows(int ring, oh_u32 row) {
    const oh_u64 each = (oh_u64)OH_ROOM * OH_TEAMS * OH_SLOT_PACKETS * OH_PACKET;
    oh_rows_t rows;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
        rows.at[k] = OH_PACKETS_AT + (ring * OH_RING + (row + k) % OH_RING) * each +
                     (blockIdx.x * OH_SLOT_PACKETS + threadIdx.x) * OH_PACKET;
    }
    return rows;
}

/* In rank `owner`'s mailbox, for packets from its peer number `index`. */
OH_DEVICE unsigned char *oh_place(const oh_kernel_args_t &a, int owner, oh_u64 at, int index) {
    return a.workspace[owner] + at + index * ((oh_u64)OH_TEAMS * OH_SLOT_PACKETS * OH_PACKET);
}

/* ---- putting and taking ---- */

OH_DEVICE void oh_put(const oh_kernel_args_t &a, int peer, oh_u64 at, const oh_packet_t &packet) {
    oh_st_relaxed_sys_packet(oh_place(a, peer, at, oh_peer_index(OH_RANK, peer)), packet);
}

OH_DEVICE void oh_put_all(const oh_kernel_args_t &a, oh_u64 at, const oh_packet_t &packet) {
#pragma unroll
    for (int p = 0; p < OH_PEERS; p++) oh_put(a, oh_peer(p), at, packet);
}

/* A step's packets from every peer, but for those of which present[k][p] is false. */
typedef struct oh_inbox {
    bool present[OH_K][OH_ROOM];
    oh_packet_t packet[OH_K][OH_ROOM];
} oh_inbox_t;

/* What lies in the places by now. */
OH_DEVICE void oh_look(const oh_kernel_args_t &a, const oh_rows_t &rows, oh_inbox_t *in) {
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (in->present[k][p]) in->packet[k][p] = oh_ld_relaxed_sys_packet(oh_place(a, OH_RANK, rows.at[k], p));
        }
    }
}

OH_DEVICE bool oh_row_has_come(const oh_inbox_t *in, int k) {
    bool all = true;
#pragma unroll
    for (int p = 0; p < OH_PEERS; p++) all = all && (!in->present[k][p] || oh_full(in->packet[k][p]));
    return all;
}

OH_DEVICE bool oh_has_come(const oh_inbox_t *in) {
    bool all = true;
#pragma unroll
    for (int k = 0; k < OH_K; k++) all = all && oh_row_has_come(in, k);
    return all;
}

/* Looks again where something has not come; returns the number of a peer that it was to come from, or -1. */
OH_DEVICE int oh_look_again(const oh_kernel_args_t &a, const oh_rows_t &rows, oh_inbox_t *in) {
    int missing = -1;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (!in->present[k][p] || oh_full(in->packet[k][p])) continue;
            missing = p;
            in->packet[k][p] = oh_ld_relaxed_sys_packet(oh_place(a, OH_RANK, rows.at[k], p));
        }
    }
    return missing;
}

/*
 * Where there is much to come (OH_GENTLE), a warp's first lane alone looks for its last packet, before all look for
 * theirs: looking takes a share of the L2 cache's bandwidth, which what arrives needs too. False if it gave up.
 */
OH_DEVICE bool oh_wait_for_first(const oh_kernel_args_t &a, const oh_rows_t &rows, const oh_inbox_t *in) {
    oh_patience_t patience = {0, 0};
    bool good = true;
    const unsigned char *place = oh_place(a, OH_RANK, rows.at[OH_K - 1], OH_ROOM - 1);
    if (OH_PEERS > 0 && threadIdx.x % 32 == 0 && in->present[OH_K - 1][OH_ROOM - 1]) {
        while (good && !oh_full(oh_ld_relaxed_sys_packet(place))) {
            good = oh_patient(a, &patience, oh_peer(OH_ROOM - 1), OH_REPORT_DATA);
        }
    }
    return __all_sync(0xffffffffu, good);
}

/*
 * Takes the step's packets, and looks again only for those that have not come; false if it gave up. The places are
 * emptied by oh_empty, when there is time. Where OH_AHEAD, the caller has looked before, and done something else
 * until the answer came.
 *
 * A warp that takes several times gives up as a whole: a lane that had nothing to wait for would begin to wait for what
 * comes next, and nobody is to wait for longer than the time for one operation.
 */
OH_DEVICE bool oh_take(const oh_kernel_args_t &a, const oh_rows_t &rows, oh_inbox_t *in) {
    oh_patience_t patience = {0, 0};
    int missing;
    const bool waits = OH_GENTLE && (!OH_AHEAD || !__all_sync(0xffffffffu, oh_has_come(in)));
    if (waits && !oh_wait_for_first(a, rows, in)) return false;
    if (!OH_AHEAD) oh_look(a, rows, in);
    do {
        missing = oh_look_again(a, rows, in);
    } while (missing >= 0 && oh_patient(a, &patience, oh_peer(missing), OH_REPORT_DATA));
    return OH_GENTLE ? __all_sync(0xffffffffu, missing < 0) : missing < 0;
}

OH_DEVICE void oh_empty_row(const oh_kernel_args_t &a, const oh_rows_t &rows, const oh_inbox_t *in, int k) {
    const oh_packet_t empty = {{0, 0, 0, OH_EMPTY}};
#pragma unroll
    for (int p = 0; p < OH_PEERS; p++) {
        if (in->present[k][p]) oh_st_relaxed_sys_packet(oh_place(a, OH_RANK, rows.at[k], p), empty);
    }
}

OH_DEVICE void oh_empty(const oh_kernel_args_t &a, const oh_rows_t &rows, const oh_inbox_t *in) {
#pragma unroll
    for (int k = 0; k < OH_K; k++) oh_empty_row(a, rows, in, k);
}

/* The sum over all ranks in their order, of this rank's unit and the peers' packets. */
OH_DEVICE oh_packet_t oh_reduce(const oh_packet_t &own, const oh_packet_t packet[OH_ROOM]) {
    oh_sum_t sum;
#pragma unroll
    for (int r = 0; r < OH_NRANKS; r++) {
        const oh_packet_t &unit = r == OH_RANK ? own : packet[oh_peer_index(r, OH_RANK) % OH_ROOM];
        if (r == 0) {
            oh_sum_begin(&sum, unit);
        } else {
            oh_sum_add(&sum, unit);
        }
    }
    return oh_sum_end(&sum);
}

/* ---- credits, in launches of several steps ---- */

#if OH_MANY
enum { OH_GIVEN_UP = 1 << 30 };

enum { OH_COUNTS = 5 };

__shared__ oh_u32 oh_done_count[OH_COUNTS]; /* warps that have done step i, in [i % 5]; OH_GIVEN_UP: they will not */

/* Rank `source`'s credit at rank `owner`. Credits count on over all launches, like rows. */
OH_DEVICE unsigned char *oh_credit(const oh_kernel_args_t &a, int owner, int source) {
    return a.workspace[owner] + OH_CREDITS_AT + (source * OH_GPU_TEAMS + blockIdx.x) * 4;
}

/* What the keeper does. Nobody waits for credit for the last two steps, and the kernel's end for a last fence. */
OH_DEVICE void oh_keep_credits(const oh_kernel_args_t &a, oh_u32 first) {
    const int lane = (int)(threadIdx.x % 32);
    const oh_u32 warps = oh_workers() / 32;
    for (oh_u32 i = 0; i + 2 < a.steps; i++) {
        while (oh_ld_acquire_block(&oh_done_count[i % OH_COUNTS]) < (i / OH_COUNTS + 1) * warps) __nanosleep(50);
        oh_fence_sys();
        if (lane < OH_PEERS) oh_st_relaxed_sys(oh_credit(a, oh_peer(lane), OH_RANK), first + i + 1);
    }
}

OH_DEVICE void oh_reset_counts(void) {
    for (int c = 0; c < OH_COUNTS; c++) oh_done_count[c] = 0;
}

/* This warp has emptied what it was sent in step i. */
OH_DEVICE void oh_done(oh_u32 i) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) oh_add_release_block(&oh_done_count[i % OH_COUNTS], 1);
}

/* The keeper must not wait for a warp that has given up. */
OH_DEVICE void oh_give_up(void) {
    for (int c = 0; c < OH_COUNTS; c++) oh_or_release_block(&oh_done_count[c], OH_GIVEN_UP);
}

/* Before step i+1, or results of step i, are put, or the launch ends after i steps: all peers have done step i-3.
 * False if it gave up. */
OH_DEVICE bool oh_wait_for_credit(const oh_kernel_args_t &a, oh_u32 first, oh_u32 i) {
    const int lane = (int)(threadIdx.x % 32);
    bool good = true;
    if (i < 3) return true;
    if (lane < OH_PEERS) {
        const int peer = oh_peer(lane);
        oh_patience_t patience = {0, 0};
        while (good && (int)(oh_ld_acquire_sys(oh_credit(a, OH_RANK, peer)) - (first + i - 2)) < 0) {
            good = oh_patient(a, &patience, peer, OH_REPORT_BARRIER);
        }
    }
    return __all_sync(0xffffffffu, good);
}
#endif

/* ---- a launch ---- */

/*
 * The last warp of a block, its keeper, does all that the others, its workers, need not wait for. It alone reads where
 * the rings stand, and tells them: its store, its arrival at the barrier; the workers' wait there, their load.
 */
__shared__ oh_u32 oh_rows_so_far;

/* A worker asks for it when its input is on its way, so that it waits for neither alone. */
OH_DEVICE oh_u32 oh_first_row(void) {
    oh_wait_for_arrivals();
    return oh_rows_so_far;
}

OH_DEVICE void oh_keep(const oh_kernel_args_t &a) {
    oh_start_t now = oh_look_up(a);
    oh_rows_so_far = now.rows;
#if OH_MANY
    oh_reset_counts();
#endif
    oh_arrive();
    oh_publish(a, now, a.steps * OH_K, 0);
    oh_wait_for_previous();
    oh_let_next(a, now);
    oh_greet(a, &now);
#if OH_MANY
    oh_keep_credits(a, now.rows);
#endif
    oh_tell_mismatch(a, now);
}

/* `work`, the workers', waits for the previous kernel and asks for the first row; it is false if it gave up. */
OH_DEVICE void oh_launch(const oh_kernel_args_t &a, bool (*work)(const oh_kernel_args_t &)) {
    if (threadIdx.x >= oh_workers()) {
        oh_keep(a);
    } else if (!work(a)) {
#if OH_MANY
        oh_give_up();
#endif
        oh_tell_reason(a);
    }
}

#endif
