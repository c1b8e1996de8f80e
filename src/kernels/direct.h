/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first barrier of a launch, with which ranks tell each other where their buffers are; and buffers that are
 * registered, which the kernels then read and write directly, without pages.
 *
 * NOTICES. In this barrier a rank signals by two packets, which name the barrier, the places of its two buffers, and
 * what it called. Who writes: two threads of this rank's block for each peer, into the peer's notices of this team,
 * where this rank alone writes. Who reads: the same threads of the peer's block. Edges: those of oh_meet; a packet is
 * seen as a whole, so its number says that the rest of it has come. A notice is written over in the rank's next launch
 * of the team, which begins when this one has ended on that rank: after a later barrier of this launch, as there is one
 * on every way through it, and the reader signals that after it has read the notice.
 *
 * WHAT IS DECIDED, directly or not, follows from the notices of all ranks alone, so that the ranks of a team decide
 * alike. That a buffer is no longer registered, which a graph does not know, its own rank finds, and gives no place for
 * it: rows change only while no kernel is under way that has a place in them. Whether an address is a multiple of 16 is
 * the same for all, since memory is mapped by larger pages. Ranks that have not called the same stay with the pages:
 * nobody writes behind the end of a peer's buffer, and the launch ends as it does without places. Another team may
 * decide otherwise; it has the same share of the message on either way, and they meet nowhere.
 *
 * WHEN BUFFERS ARE TOUCHED. After the first barrier, which a rank signals when the previous kernel of its stream has
 * ended: what that has written into its buffers is seen, and what it has read may be written over. And before the last
 * one, so that the next kernel of its stream sees all that peers have written, and none of them still reads.
 */
#ifndef OH_KERNELS_DIRECT_H
#define OH_KERNELS_DIRECT_H

#include "kernels/page.h"

enum { OH_SENDBUF, OH_RECVBUF };

/* [buffer]: this rank's places, as its notices say; and at which addresses it reaches the buffers of all; 0: at none.
 */
__shared__ oh_u64 oh_own_place[2], oh_reached[2][OH_NRANKS];

/* Units move whole, but for the last. */
OH_DEVICE oh_u64 oh_aligned(oh_u64 address) { return address % OH_UNIT == 0 ? address : 0; }

OH_DEVICE const oh_registered_t *oh_row(const oh_kernel_args_t &a, oh_u64 place) {
    return &a.registered[OH_PLACE_ROW(place)];
}

/* Whether what was registered at that place still is. */
OH_DEVICE bool oh_is_registered(const oh_kernel_args_t &a, oh_u64 place) {
    return place != 0 && oh_row(a, place)->place == OH_PLACE_START(place);
}

/* Where this rank's buffers lie. It needs nothing of the previous kernel. */
OH_DEVICE void oh_find_places(const oh_kernel_args_t &a) {
    if (threadIdx.x != 0) return;
    const oh_u64 send = oh_is_registered(a, a.send_place) ? a.send_place : 0;
    const oh_u64 recv = oh_is_registered(a, a.recv_place) ? a.recv_place : 0;
    oh_own_place[OH_SENDBUF] = send;
    oh_own_place[OH_RECVBUF] = recv;
    oh_reached[OH_SENDBUF][OH_RANK] = send == 0 ? 0 : oh_aligned((oh_u64)a.send);
    oh_reached[OH_RECVBUF][OH_RANK] = recv == 0 ? 0 : oh_aligned((oh_u64)a.recv);
}

/* ---- notices ---- */

OH_DEVICE unsigned char *oh_notice(const oh_kernel_args_t &a, int owner, int source, int buffer) {
    unsigned char *first = a.workspace[owner] + OH_PAGES_AT - (oh_u64)OH_TEAMS * OH_NOTICES;
    return first + blockIdx.x * OH_NOTICES + (source * 2 + buffer) * OH_PACKET;
}

/* The last words of both tell the count, below 2^48, the dtype and the op. */
OH_DEVICE oh_packet_t oh_own_notice(const oh_kernel_args_t &a, oh_u32 number, int buffer) {
    const oh_u64 place = oh_own_place[buffer];
    const oh_u32 called = buffer == OH_SENDBUF ? (oh_u32)a.count : a.what << 16 | (oh_u32)(a.count >> 32);
    return oh_packet_t{{number, (oh_u32)place, (oh_u32)(place >> 32), called}};
}

/* Where this rank reaches a buffer of the peer. */
OH_DEVICE oh_u64 oh_reach(const oh_kernel_args_t &a, int peer, oh_u64 place) {
    if (!oh_is_registered(a, place)) return 0;
    return oh_aligned(oh_row(a, place)->address[peer] + place - OH_PLACE_START(place));
}

/* Barrier `number`, the first of this launch; false if it was given up. All threads of the block call it. */
OH_DEVICE bool oh_meet_first(const oh_kernel_args_t &a, oh_u32 number) {
    bool met = true;
    __syncthreads();
    if ((int)threadIdx.x < 2 * OH_PEERS) {
        const int peer = oh_peer((int)threadIdx.x / 2), buffer = (int)threadIdx.x % 2;
        const unsigned char *mine = oh_notice(a, OH_RANK, peer, buffer);
        const oh_packet_t own = oh_own_notice(a, number, buffer);
        oh_patience_t patience = {0, 0};
        oh_fence_sys();
        oh_st_relaxed_sys_packet(oh_notice(a, peer, OH_RANK, buffer), own);
        oh_packet_t theirs = oh_ld_acquire_sys_packet(mine);
        while (met && (int)(theirs.word[0] - number) < 0) {
            met = oh_patient(a, &patience, peer, OH_REPORT_BARRIER);
            theirs = oh_ld_acquire_sys_packet(mine);
        }
        const bool same = met && theirs.word[0] == number && theirs.word[3] == own.word[3];
        oh_reached[buffer][peer] = same ? oh_reach(a, peer, theirs.word[1] | (oh_u64)theirs.word[2] << 32) : 0;
    }
    return __syncthreads_and(met);
}

/* ---- buffers ---- */

/* Those of all ranks, as this one reaches them. */
typedef struct oh_buffers {
    const unsigned char *send[OH_NRANKS];
    unsigned char *recv[OH_NRANKS];
    bool direct;   /* they may be used */
    bool in_place; /* some rank's two are one */
} oh_buffers_t;

/* After the first barrier. */
OH_DEVICE oh_buffers_t oh_find_buffers(void) {
    oh_buffers_t b;
    b.direct = true;
    b.in_place = false;
#pragma unroll
    for (int r = 0; r < OH_NRANKS; r++) {
        const oh_u64 send = oh_reached[OH_SENDBUF][r], recv = oh_reached[OH_RECVBUF][r];
        b.send[r] = oh_global(send);
        b.recv[r] = oh_global(recv);
        b.direct = b.direct && send != 0 && recv != 0;
        b.in_place = b.in_place || send == recv;
    }
    return b;
}

/* Unit number `unit` of a buffer. */
OH_DEVICE oh_packet_t oh_get(const oh_kernel_args_t &a, const unsigned char *buffer, oh_u64 unit) {
    const unsigned char *from = buffer + unit * OH_UNIT;
    if (!OH_WHOLE && unit + 1 == a.units) return oh_load_unit(from, oh_last_bytes(a));
    return *(const oh_packet_t *)from;
}
OH_DEVICE void oh_set(const oh_kernel_args_t &a, unsigned char *buffer, oh_u64 unit, const oh_packet_t &value) {
    unsigned char *to = buffer + unit * OH_UNIT;
    if (!OH_WHOLE && unit + 1 == a.units) {
        oh_store_unit(to, oh_last_bytes(a), value);
    } else {
        *(oh_packet_t *)to = value;
    }
}

/* The sum of unit number `unit` over the inputs of all. */
OH_DEVICE oh_packet_t oh_reduce_inputs(const oh_kernel_args_t &a, const oh_buffers_t &b, oh_u64 unit) {
    oh_packet_t input[OH_NRANKS];
    input[OH_RANK] = oh_get(a, b.send[OH_RANK], unit);
#pragma unroll
    for (int p = 0; p < OH_PEERS; p++) input[oh_peer(p)] = oh_get(a, b.send[oh_peer(p)], unit);
    return oh_reduce_units(input);
}

/* Where a thread is in the team's share of one part, which it goes through without regard to steps. */
typedef struct oh_walk {
    oh_u32 step, unit; /* the latter of the part */
} oh_walk_t;

OH_DEVICE void oh_walk_by(oh_walk_t *walk, oh_u32 units, int part) {
    walk->unit += units;
    walk->step += walk->unit / (oh_u32)part;
    walk->unit %= (oh_u32)part;
}
OH_DEVICE oh_walk_t oh_walk_begin(int part) {
    oh_walk_t walk = {0, 0};
    oh_walk_by(&walk, threadIdx.x, part);
    return walk;
}
OH_DEVICE void oh_walk_on(oh_walk_t *walk, int part) { oh_walk_by(walk, blockDim.x, part); }

/* ---- a launch ---- */

/* What an algorithm does after barrier `barrier`, with parts of `part` units. False if it gave up. */
typedef bool oh_directly_t(const oh_kernel_args_t &a, const oh_buffers_t &b, int part, oh_u32 barrier);
typedef bool oh_on_pages_t(const oh_kernel_args_t &a, int part, oh_u32 barrier);

/* The number of the launch's first barrier; the first warp tells the others. */
__shared__ oh_u32 oh_first_barrier;

/* What that warp does; behind it stands a barrier of the block. */
OH_DEVICE void oh_keep(const oh_kernel_args_t &a, oh_u32 barriers) {
    oh_start_t now = oh_look_up(a);
    oh_first_barrier = now.barriers + 1;
    oh_publish(a, now, 0, barriers);
    oh_greet(a, &now);
    oh_wait_for_previous();
    oh_let_next(a, now);
    oh_tell_mismatch(a, now);
}

/*
 * The one or the other, in a launch that takes `barriers` barriers; steps have `parts` parts, and `in_place` says
 * whether buffers may be used so directly.
 */
OH_DEVICE void oh_launch(const oh_kernel_args_t &a, oh_u32 barriers, int parts, bool in_place, oh_directly_t directly,
                         oh_on_pages_t on_pages) {
    const int part = oh_part_units(a, parts);
    if (threadIdx.x < 32) oh_keep(a, barriers);
    oh_find_places(a);
    oh_wait_for_previous();
    __syncthreads();
    const oh_u32 barrier = oh_first_barrier;
    bool good = oh_meet_first(a, barrier);
    if (good) {
        const oh_buffers_t b = oh_find_buffers();
        good = b.direct && (in_place || !b.in_place) ? directly(a, b, part, barrier) : on_pages(a, part, barrier);
    }
    if (!good) oh_tell_reason(a);
}

#endif
