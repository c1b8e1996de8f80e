/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one rank's workspace on its GPU holds, and where; and what a kernel and the host tell each other. Read by host
 * code (C11) and by device code (NVRTC, without any header of the system).
 *
 *     counters   one oh_counter_t per team: written and read by this rank's kernels alone
 *     greetings  what each rank called, and in which operation (kernels/team.h)
 *     flags      one word per source and team: the barriers of the algorithms that have them; each written by one peer
 *     credits    likewise: how far that peer has emptied its mailbox (kernels/packet.h)
 *     packets    two rings (OH_SCATTER, OH_GATHER) of slots; a slot has room for a packet to each thread of every team
 *                from every peer: written by that peer, emptied by this rank
 *     notices    [team][source][sendbuf, recvbuf], a packet each: what that peer says of its buffers, and it alone
 *                writes (kernels/direct.h)
 *     pages      plain data of the algorithms with barriers, the same number of bytes for every team
 *
 * A team is the blocks of the same index on all ranks. Teams share nothing, so a launch may have any number of them.
 */
#ifndef OH_ARENA_DEVICE_LAYOUT_H
#define OH_ARENA_DEVICE_LAYOUT_H

enum {
    OH_GPU_RANKS = 8,   /* most ranks of a communicator on GPUs */
    OH_GPU_TEAMS = 256, /* most teams of a launch */
    OH_PACKET = 16,     /* bytes: what one access moves as a whole */
    OH_KEEPER = 32,     /* threads of a block behind its workers, where data travel in packets (kernels/packet.h) */
    OH_SCATTER = 0,
    OH_GATHER = 1,
    OH_RINGS = 2,
    OH_COUNTER = 16,                         /* bytes of an oh_counter_t */
    OH_CLAIM_AT = OH_GPU_TEAMS * OH_COUNTER, /* which thread of this rank may report */
    OH_CURRENT_AT = OH_CLAIM_AT + 8,         /* number of the operation whose kernel is running */
    OH_GREETINGS_AT = OH_CLAIM_AT + 64,      /* [source][operation % OH_GREETINGS], a packet each */
    OH_GREETINGS = 4,
    OH_FLAGS_AT = OH_CLAIM_AT + 4096,                              /* [source][team], 4 bytes each */
    OH_CREDITS_AT = OH_FLAGS_AT + OH_GPU_RANKS * OH_GPU_TEAMS * 4, /* likewise */
    OH_PACKETS_AT = OH_CREDITS_AT + OH_GPU_RANKS * OH_GPU_TEAMS * 4,
    OH_NOTICES = 2 * OH_GPU_RANKS * OH_PACKET, /* bytes: of one team. They end where the pages begin. */
    OH_GPU_REGISTRATIONS = 1024                /* most buffers of a rank registered at once */
};

#define OH_EMPTY 0x80000000u /* the last word of a place that holds no packet */

/* How far a team has come; the same on all ranks. */
typedef struct oh_counter {
    unsigned int rows; /* of the packet rings */
    unsigned int barriers;
    unsigned long long operations;
} oh_counter_t;

/*
 * A place: the number of the registered buffer in which a buffer lies, from 1, and how many bytes from its beginning;
 * 0: in none. Buffers of one address have one place, so that kernels see what is in place.
 */
#define OH_PLACE_SHIFT           40
#define OH_PLACE(number, offset) ((unsigned long long)(number) << OH_PLACE_SHIFT | (offset))
#define OH_PLACE_START(place)    ((place) >> OH_PLACE_SHIFT << OH_PLACE_SHIFT)
#define OH_PLACE_ROW(place)      ((((place) >> OH_PLACE_SHIFT) - 1) % OH_GPU_REGISTRATIONS)

/*
 * A row of the table of registered buffers. A rank fills it before it uses a place in it, and all ranks empty it when
 * no kernel that has one is under way (backend/cuda/registry.h); a graph may have kept a place.
 */
typedef struct oh_registered {
    unsigned long long place; /* where the buffer begins; 0: the row is empty */
    unsigned long long address[OH_GPU_RANKS];
} oh_registered_t;

/* What a kernel is told. Addresses are those of this rank's address space. */
typedef struct oh_kernel_args {
    const void *send;
    void *recv;
    unsigned long long count;               /* elements */
    unsigned char *workspace[OH_GPU_RANKS]; /* of every rank */
    unsigned char *control;                 /* this rank's oh_control_t, in the host's memory */
    unsigned long long timeout_ns;          /* how long to wait for a peer */
    unsigned long long units;               /* of the message, as the kernel cuts it */
    unsigned int steps;                     /* of every team */
    unsigned int what;                      /* OH_WHAT of the operation's dtype and op */
    unsigned long long send_place, recv_place;
    const oh_registered_t *registered; /* this rank's table; NULL: none is registered yet */
} oh_kernel_args_t;

#define OH_WHAT(dtype, op) ((unsigned)(dtype) | (unsigned)(op) << 8)

/* What a rank says to its peers when it begins an operation: 16 bytes, written and read as a whole. */
typedef struct oh_greeting {
    unsigned int operation; /* the lower half of its number */
    unsigned int what;
    unsigned long long count;
} oh_greeting_t;

/* What a kernel that gave up, or has seen ranks disagree, says. */
typedef struct oh_report {
    unsigned int ready; /* stored last: the report is whole */
    unsigned int kind;  /* oh_report_kind_t */
    unsigned int rank;  /* the peer */
    unsigned long long operation;
    oh_greeting_t mine, theirs; /* OH_REPORT_MISMATCH */
} oh_report_t;

typedef enum oh_report_kind { OH_REPORT_DATA, OH_REPORT_BARRIER, OH_REPORT_MISMATCH } oh_report_kind_t;

enum { OH_REPORT_AT = 2048 }; /* in the control page, behind the fault record, whose first word is the poison */

#endif
