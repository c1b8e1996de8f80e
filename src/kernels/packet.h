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
 * EXCHANGES. A team moves in steps. In step x of a ring every thread puts packets into slot x % OH_RING of the peers'
 * mailboxes, and takes those that the peers' threads of the same number put into its own; taking empties the place.
 * Why a place is empty when the next packet arrives in it, OH_RING steps later:
 *
 *   Between launches. A rank puts nothing before its previous kernel has ended (griddepcontrol.wait, or the order of
 *   the stream), hence has taken, and emptied, all that the kernel was sent. So whoever gets a packet of a kernel knows
 *   that the sender's earlier kernels have ended; and a kernel cannot end before it has got packets of all ranks, or
 *   of one that has. A place used by kernel k is used again no sooner than in kernel k+1, by a rank whose kernel k has
 *   ended; with four slots and launches of one step, in kernel k+4, when all ranks' kernels k+2 have ended. A launch of
 *   several steps follows the rule within a launch from its second step on.
 *
 *   Within a launch, thread by thread. Step i is: fence; put(i+1); take(i), emptying it; in a two-shot, put the results
 *   of i, and take(i-1) from the other ring. Peer B puts scatter i+1 over i-3 in its step i, after its fence of step i,
 *   having taken in step i-1 what I put last in my step i-2 (two-shot: the results of i-2; one-shot: packet i-1), which
 *   I put after my fence of step i-2, hence after I emptied i-3 in my step i-3. B puts the results of i over those of
 *   i-4 likewise: I emptied them in my step i-3. My emptying store, my fence, my put, B's take, B's fence, B's put: a
 *   chain of causality order, as the PTX memory model asks (relaxed accesses between two fences synchronise).
 *   The first step needs no fence: the launch has just begun. What it puts at once, steps 0 and 1, lies over steps -4
 *   and -3: of earlier launches, or of the last one if that had several steps. Whoever has ended that one has taken
 * what each of my threads put in its last step (one-shot) or last but one (two-shot), after it had emptied step -3.
 *
 * Two slots would do for one-shot without look-ahead; four are what the two-shot needs.
 */
#ifndef OH_KERNELS_PACKET_H
#define OH_KERNELS_PACKET_H

#define OH_EMPTY 0x80000000u

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

/* What is left of the message from `unit` on, as far as one step can reach. */
OH_DEVICE oh_u32 oh_left(const oh_kernel_args_t &a, oh_u64 unit) {
    if (unit >= a.units) return 0;
    return a.units - unit < 0xffffffffu ? (oh_u32)(a.units - unit) : 0xffffffffu;
}

/* This thread's first place in slot `step` of rank `owner`'s mailbox, for packets from its peer number `index`. */
OH_DEVICE unsigned char *oh_place(const oh_kernel_args_t &a, int owner, int ring, oh_u32 step, int index) {
    const oh_u32 slot = (oh_u32)(ring * OH_RING) + step % OH_RING;
    const oh_u32 row = ((slot * OH_PEERS + (oh_u32)index) * OH_TEAMS + blockIdx.x) * OH_SLOT_PACKETS;
    return a.workspace[owner] + OH_PACKETS_AT + (oh_u64)(row + threadIdx.x) * OH_PACKET;
}

/* A thread's packets of a step lie a block's threads apart. */
OH_DEVICE unsigned char *oh_place_of(unsigned char *first, int k) { return first + k * blockDim.x * OH_PACKET; }

/* Puts the packet into the mailboxes of all peers. */
OH_DEVICE void oh_put_all(const oh_kernel_args_t &a, int ring, oh_u32 step, int k, const oh_packet_t &packet) {
#pragma unroll
    for (int p = 0; p < OH_PEERS; p++) {
        const int peer = oh_peer(p);
        oh_st_relaxed_sys_packet(oh_place_of(oh_place(a, peer, ring, step, oh_peer_index(OH_RANK, peer)), k), packet);
    }
}

/*
 * Takes packets 0 ... OH_K-1 of the step from every peer, but for those of which present[k][p] is false; false if it
 * gave up. Looks again only at those that have not come.
 */
OH_DEVICE bool oh_take(const oh_kernel_args_t &a, int ring, oh_u32 step, const bool present[OH_K][OH_ROOM],
                       oh_packet_t packet[OH_K][OH_ROOM]) {
    oh_patience_t patience = {0, 0};
    int missing;
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (present[k][p])
                packet[k][p] = oh_ld_relaxed_sys_packet(oh_place_of(oh_place(a, OH_RANK, ring, step, p), k));
        }
    }
    do {
        missing = -1;
#pragma unroll
        for (int k = 0; k < OH_K; k++) {
#pragma unroll
            for (int p = 0; p < OH_PEERS; p++) {
                if (!present[k][p] || oh_full(packet[k][p])) continue;
                missing = p;
                packet[k][p] = oh_ld_relaxed_sys_packet(oh_place_of(oh_place(a, OH_RANK, ring, step, p), k));
            }
        }
    } while (missing >= 0 && oh_patient(a, &patience, oh_peer(missing), 0));
    const oh_packet_t empty = {{0, 0, 0, OH_EMPTY}};
#pragma unroll
    for (int k = 0; k < OH_K; k++) {
#pragma unroll
        for (int p = 0; p < OH_PEERS; p++) {
            if (present[k][p]) oh_st_relaxed_sys_packet(oh_place_of(oh_place(a, OH_RANK, ring, step, p), k), empty);
        }
    }
    return missing < 0;
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

#endif
