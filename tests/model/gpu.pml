/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rings of packets of the GPU kernels, for Spin; run.py says with which parameters they are checked.
 *
 *   here                     in src/kernels/
 *   ----                     ---------------
 *   place, put, take         the rings of packet.h: oh_put, oh_take and oh_empty
 *   count, credit, keeper    its counts and credits: oh_done, oh_keep_credits, oh_wait_for_credit
 *   run_one_shot             one_shot_push.cu
 *   run_two_shot             two_shot_push.cu
 *   begin, end               the kernel boundary: a rank is in one launch at a time
 *
 * A team is a block on each rank: WARPS warps and a keeper. Launches of both kinds and of few or many steps follow each
 * other in every order, but that the long ones (MOST steps) come first; all ranks run the same. A launch of one step
 * has one row or half a ring of them. With EDGES the message ends within the last step: nothing is left for it, or one
 * packet, or all but one; the other warps, or parts, have none.
 *
 * A place is EMPTY, FULL of the packet of a row, or TAKEN: who has taken a packet has stored "empty", but relaxed
 * stores may be seen late, after packets that the same warp puts later. A TAKEN place becomes EMPTY to others only when
 * something orders the store: the keeper's fence, for warps whose count it has seen, or the end of the kernel. To put
 * upon any other place than an EMPTY one is the error that is looked for. Were places emptied at once (PROMPT), packets
 * alone would keep the ranks in step, and credits would not be needed: run.py tries that too. All other words are
 * sequentially consistent here.
 *
 * What does not matter is taken together: a put goes to all peers at once, a step's packets are taken at once and are
 * counted with that. Who could see such things apart would see them as it does when it comes later itself. Not
 * modelled: giving up and timeouts, the data, that row numbers wrap, several teams (the kernel boundary
 * joins them: a team that has nothing to do in a launch is as far as that of block 0, which always has).
 */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef WARPS
#define WARPS 2
#endif
#ifndef LAUNCHES
#define LAUNCHES 1
#endif
#ifndef MOST
#define MOST 5 /* steps of a long launch; 0: there are none */
#endif
#ifndef PROMPT
#define PROMPT false
#endif

/* As in packet.h, in steps of a quarter of a ring; the mutants change them. */
#ifndef RING
#define RING 4
#endif
#ifndef COUNTS
#define COUNTS 5
#endif
#ifndef LAST_WITHOUT
#define LAST_WITHOUT 2 /* the last steps of a launch that the keeper gives no credit for */
#endif
#ifndef FIRST_TO_WAIT
#define FIRST_TO_WAIT 3 /* the first step that waits for credit */
#endif

#define LAST (RANKS - 1)
#define SCATTER 0
#define GATHER 1

#define EMPTY 0
#define FULL(row) (2 * (row))
#define TAKEN(row) (2 * (row) + 1)
#define IS_TAKEN(what) ((what) % 2 == 1)
#define IS_FULL(what) ((what) != EMPTY && !IS_TAKEN(what))

mtype = { one_shot, two_shot };

/* Launches, by their number's parity: no rank is two before another. */
mtype kind[2];
byte steps[2], width[2]; /* rows of a step */
byte left[2], first[2];  /* packets in the last step; the first row */
byte chosen;

byte place[2 * RANKS * RANKS * WARPS * RING]; /* by ring, owner, source, warp and slot */
byte credit[RANKS];                           /* what a rank has written to its peers */
byte count[RANKS * COUNTS];
byte done[RANKS * WARPS]; /* steps that a warp has done */
byte at[RANKS];           /* the launch that a rank is in, */
byte running[RANKS];      /* and its warps and keepers that have not ended it; 0 before the first begins */
hidden byte j, k, p;

/* For the launch n, the rank `me` and its warp w. */
#define N (n % 2)
#define PARTS (kind[N] == two_shot -> RANKS : 1)
#define ROW(step, k) (first[N] + (step) * width[N] + (k))
#define INSIDE(step, part, k) \
    ((step) + 1 < steps[N] || ((kind[N] == two_shot -> (part) : 0) * width[N] + (k)) * WARPS + w < left[N])
#define MAILBOX (RANKS * WARPS * RING)
#define PLACE(ring, owner, source, row) \
    place[((ring) * RANKS + (owner)) * MAILBOX + ((source) * WARPS + w) * RING + (row) % RING]
#define MINE(ring, j) place[((ring) * RANKS + me) * MAILBOX + (j)]

/* ---- packets; all of this in a d_step ---- */

/* Parts of a step in a two-shot: what is scattered is the receiver's, what is gathered the sender's. */
inline put(ring, step) {
    p = 0;
    do
    :: p < RANKS ->
        k = 0;
        do
        :: k < width[N] ->
            if
            :: p != me && INSIDE(step, (ring == SCATTER -> p : me), k) ->
                assert(PLACE(ring, p, me, ROW(step, k)) == EMPTY);
                PLACE(ring, p, me, ROW(step, k)) = FULL(ROW(step, k))
            :: else
            fi;
            k++
        :: else -> break
        od;
        p++
    :: else -> break
    od;
    p = 0 /* Spin wants no loop at the end of a d_step */
}

#define PACKET_CAME(ring, step, source, part, k) \
    ((source) == me || !INSIDE(step, part, k) || IS_FULL(PLACE(ring, me, source, ROW(step, k))))
#define CAME(ring, step, source, part) \
    (PACKET_CAME(ring, step, source, part, 0) && PACKET_CAME(ring, step, source, part, width[N] - 1))
#define SCATTERED(step) \
    (CAME(SCATTER, step, 0, me) && CAME(SCATTER, step, 1, me) && CAME(SCATTER, step, LAST, me))
#define GATHERED(step) (CAME(GATHER, step, 0, 0) && CAME(GATHER, step, 1, 1) && CAME(GATHER, step, LAST, LAST))

inline take(ring, step) {
    p = 0;
    do
    :: p < RANKS ->
        k = 0;
        do
        :: k < width[N] ->
            if
            :: p != me && INSIDE(step, (ring == SCATTER -> me : p), k) ->
                assert(PLACE(ring, me, p, ROW(step, k)) == FULL(ROW(step, k)));
                PLACE(ring, me, p, ROW(step, k)) = (PROMPT -> EMPTY : TAKEN(ROW(step, k)))
            :: else
            fi;
            k++
        :: else -> break
        od;
        p++
    :: else -> break
    od;
    p = 0
}

/* ---- launches ---- */

inline choose() {
    first[N] = (n == 0 -> RING : first[1 - N] + steps[1 - N] * width[1 - N]);
    width[N] = 1;
    if
    :: kind[N] = one_shot
    :: kind[N] = two_shot
    fi;
    if
    :: steps[N] = 1
    :: steps[N] = 1; width[N] = RING / 2
    :: steps[N] = 2
    :: n == 0 && MOST != 0 -> steps[N] = MOST
    fi;
    left[N] = PARTS * width[N] * WARPS;
#ifdef EDGES
    if
    :: steps[N] > 1 -> left[N] = 0
    :: left[N] = 1
    :: left[N] > 1 -> left[N]--
    fi
#endif
}

inline begin() {
    atomic {
        at[me] == n;
        if
        :: chosen == n -> choose(); chosen++
        :: else
        fi;
        d_step {
            if
            :: running[me] == 0 -> running[me] = (steps[N] > 1 -> WARPS + 1 : WARPS)
            :: else
            fi;
            put(SCATTER, 0)
        }
    }
}

/* In a d_step. Who ends last ends the kernel: all that it has stored is seen by all. */
inline end() {
    i = 0;
    running[me]--;
    if
    :: running[me] == 0 ->
        at[me]++;
        j = 0;
        do
        :: j < COUNTS -> count[me * COUNTS + j] = 0; j++
        :: else -> break
        od;
        j = 0;
        do
        :: j < WARPS -> done[me * WARPS + j] = 0; j++
        :: else -> break
        od;
        j = 0;
        do
        :: j < MAILBOX ->
            MINE(SCATTER, j) = (IS_TAKEN(MINE(SCATTER, j)) -> EMPTY : MINE(SCATTER, j));
            MINE(GATHER, j) = (IS_TAKEN(MINE(GATHER, j)) -> EMPTY : MINE(GATHER, j));
            j++
        :: else -> break
        od;
        if
        :: at[0] > n && at[1] > n && at[LAST] > n -> kind[N] = 0; left[N] = 0 /* fewer states */
        :: else
        fi
    :: else
    fi;
    n++
}

/* ---- credits ---- */

#ifdef MUTANT_NO_CREDIT
#define CREDIT(i) true
#else
#define HAS_DONE(r, i) ((r) == me || credit[r] >= first[N] + (i) - 2)
#define CREDIT(i) ((i) < FIRST_TO_WAIT || HAS_DONE(0, i) && HAS_DONE(1, i) && HAS_DONE(LAST, i))
#endif

#ifdef MUTANT_LAST_RESULT_BLINDLY
#define CREDIT_FOR_RESULT(i) true
#else
#define CREDIT_FOR_RESULT(i) CREDIT(i)
#endif

#ifdef MUTANT_NO_CREDIT_AT_END
#define CREDIT_AT_END true
#else
#define CREDIT_AT_END (steps[N] == 1 || CREDIT(steps[N]))
#endif

#ifdef MUTANT_SUM /* for two warps */
#define COUNTED(i) (done[me * WARPS] + done[me * WARPS + WARPS - 1] >= ((i) + 1) * WARPS)
#else
#define COUNTED(i) (count[me * COUNTS + (i) % COUNTS] >= ((i) / COUNTS + 1) * WARPS)
#endif

inline count_step() {
    if
    :: steps[N] > 1 ->
        done[me * WARPS + w]++;
        count[me * COUNTS + i % COUNTS]++
    :: else
    fi
}

/* Of warps that have done step i, all that they emptied before they said so: gathered packets up to step i-1. */
inline fence() {
    j = 0;
    do
    :: j < MAILBOX ->
        if
        :: done[me * WARPS + j / RING % WARPS] > i ->
            if
            :: IS_TAKEN(MINE(SCATTER, j)) && MINE(SCATTER, j) <= TAKEN(first[N] + i) -> MINE(SCATTER, j) = EMPTY
            :: else
            fi;
            if
            :: IS_TAKEN(MINE(GATHER, j)) && MINE(GATHER, j) < TAKEN(first[N] + i) -> MINE(GATHER, j) = EMPTY
            :: else
            fi
        :: else
        fi;
        j++
    :: else -> break
    od
}

proctype keeper(byte me) {
    byte n, i;
    do
    :: d_step {
            n < LAUNCHES && at[me] == n && running[me] > 0 && steps[N] > 1 && (i + LAST_WITHOUT >= steps[N] || COUNTED(i)) ->
            if
            :: i + LAST_WITHOUT < steps[N] ->
                fence();
                i++;
                credit[me] = first[N] + i
            :: else -> end()
            fi
        }
    :: d_step { n < at[me] -> n++ } /* a launch of one step has no credits */
    :: n == LAUNCHES -> break
    od
}

/* ---- the kernels ---- */

inline run_one_shot() {
    do
    :: i < steps[N] ->
        if
        :: i + 1 < steps[N] -> d_step { CREDIT(i) -> put(SCATTER, i + 1) }
        :: else
        fi;
        d_step { SCATTERED(i) -> take(SCATTER, i); count_step(); i++ }
    :: else -> break
    od
}

/* Result i lies over result i-4, which peers have taken in their step i-3: so the last step waits for credit too. */
inline run_two_shot() {
    do
    :: i < steps[N] ->
        if
        :: i + 1 < steps[N] -> d_step { CREDIT(i) -> put(SCATTER, i + 1) }
        :: i + 1 == steps[N] -> CREDIT_FOR_RESULT(i)
        fi;
        d_step { SCATTERED(i) -> take(SCATTER, i); put(GATHER, i) };
        if
        :: i > 0 -> d_step { GATHERED(i - 1) -> take(GATHER, i - 1); count_step(); i++ }
        :: i == 0 -> d_step { count_step(); i++ }
        fi
    :: else ->
        d_step { GATHERED(i - 1) -> take(GATHER, i - 1) };
        break
    od
}

proctype warp(byte me; byte w) {
    byte n, i;
    do
    :: n < LAUNCHES ->
        begin();
        if
        :: kind[N] == one_shot -> run_one_shot()
        :: kind[N] == two_shot -> run_two_shot()
        fi;
        if
        :: d_step { CREDIT_AT_END -> end() }
        fi
    :: n == LAUNCHES -> break
    od
}

init {
    byte r, w;
    atomic {
        do
        :: r < RANKS ->
            run keeper(r);
            w = 0;
            do
            :: w < WARPS -> run warp(r, w); w++
            :: else -> break
            od;
            r++
        :: else -> break
        od
    }
}
