/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the ranks of the host backend keep in step, for Spin; run.py says with which parameters it is checked.
 *
 *   here                            in src/
 *   ----                            -------
 *   header, slot                    oh_segment_t, and the slots behind it (arena/layout.h)
 *   number, staged, reduced         the words that peers wait for
 *   announce, meet, run_together    backend/host/host.c
 *   run_one_shot, ...               run() of one_shot.c, two_shot.c and direct.c; oh_host_probe of probe.c
 *   await                           oh_host_wait (backend/host/wait.c)
 *   raise, poison, ready, left      oh_fault_raise and oh_fault_t (arena/fault.[ch])
 *
 * Data are versions: a place in memory holds INPUT(j) or RESULT(j) of chunk j, or TORN(r) while rank r writes there. A
 * read is two steps, at its begin and at its end, and must find what the reader expects at both; so is a write, and it
 * must find its own mark at its end. A slot that is used again before its last reader is done fails there, and so do two
 * writers. What the code reads one after the other is taken together here: that makes reads longer, and the check harder.
 *
 * Every program of OPS operations is tried: init chooses one, and Spin tries all choices. A rank that waits for ever is
 * a deadlock, which Spin reports: so all ranks come to their end, whatever fault is let loose; without one, no wait may
 * be ended by the deadline rule (FAULTY). What the MUTANTs leave out must be missed.
 *
 * Words are sequentially consistent here. In the code every wait is an acquire load of a word that its one writer stores
 * with release after all that it did before, reads included; no conclusion is drawn from two words of different ranks
 * being seen in some order, so nothing more is needed.
 */
#ifndef RANKS
#define RANKS 2
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef CHUNKS
#define CHUNKS 3 /* the most chunks of an operation */
#endif
/* What may go wrong: DEATH, LATE, ABORT, MISMATCH. Without any of them no wait may end by the deadline rule. */
#if defined(DEATH) || defined(LATE) || defined(ABORT) || defined(MISMATCH)
#define FAULTY true
#else
#define FAULTY false
#endif

/* As in arena/layout.h; the mutants make them too few. */
#ifndef SLOTS
#define SLOTS 4
#endif
#ifndef HEADERS
#define HEADERS 2
#endif

#define HEADER(r, h) ((r) * HEADERS + (h) % HEADERS)
#define PART(r, j, p) (((r) * SLOTS + (j) % SLOTS) * RANKS + (p))

#define INPUT(j) (2 * (j))
#define RESULT(j) (2 * (j) + 1)
#define TORN(r) (255 - (r))

mtype = {
    one_shot_inline, /* the data are in the header */
    one_shot,
    two_shot,
    direct,     /* all buffers are registered */
    direct_one, /* rank 0's are: all begin anew, with two_shot */
    probe,      /* nothing to reduce, and then the signal time is measured */
    mismatch    /* rank 0 has other arguments */
};

/* The program, the same for all ranks. */
mtype kind[OPS];
byte chunks[OPS];

/* Shared memory. */
byte number[RANKS * HEADERS]; /* header: the word, */
byte header[RANKS * HEADERS]; /* what else is in it (its version), */
byte says[RANKS * HEADERS];   /* and what it says */
byte staged[RANKS];
byte reduced[RANKS];
byte slot[RANKS * SLOTS * RANKS]; /* by rank, slot and part */
byte input[RANKS];                /* registered buffers: the operation whose input it holds, 0 while it is the caller's */
byte output[RANKS * RANKS];       /* and the operation that last wrote each part */
byte token[RANKS]; /* the probe */
byte signal;       /* and its outcome */

bool claimed[RANKS], ready[RANKS], left[RANKS];
byte poison[RANKS];

bool killed[RANKS];

/* ---- faults ---- */

#define LOST(r) (killed[r] && !left[r])
#define SOMEBODY_LOST (LOST(0) || LOST(1) || LOST(RANKS - 1))

inline raise(who, r) {
    atomic {
        if
        :: !claimed[who] -> claimed[who] = true
        :: else -> ready[who] /* another thread of this rank writes the record */
        fi
    }
#ifndef MUTANT_POISON_FIRST
    ready[who] = true;
#endif
    r = 0;
    do
    :: r < RANKS ->
        atomic {
            if
            :: poison[r] == 0 -> poison[r] = who + 1
            :: else
            fi;
            r++
        }
    :: else -> break
    od
#ifdef MUTANT_POISON_FIRST
    ;
    ready[who] = true
#endif
}

/* ---- waiting ---- */

/* A wait that the word ends, or a fault; `left` is read before the word is looked at once more. */
inline await(reached, r) {
    if
    :: reached
    :: poison[me] != 0 -> goto failed
    :: left[r] ->
        if
        :: reached
        :: else -> goto lost
        fi
#ifndef MUTANT_DEATH_UNSEEN
    :: SOMEBODY_LOST && !(reached) -> goto lost
#endif
#ifdef LATE
    :: !(reached) -> goto lost /* the deadline */
#endif
    fi
}

/* The same for all peers r. */
inline await_all(reached) {
    r = 0;
    do
    :: r < RANKS && r != me -> await(reached, r); r++
    :: r == me -> r++
    :: r >= RANKS -> break
    od;
    r = 0
}

/* ---- memory, for two and three ranks ---- */

#define LAST (RANKS - 1)

/* Part p of chunk j in all ranks' slots, all parts of it in rank r's, and all parts in all slots. */
#define PART_IS(p, j, what) (slot[PART(0, j, p)] == what && slot[PART(1, j, p)] == what && slot[PART(LAST, j, p)] == what)
#define SLOT_IS(r, j, what) (slot[PART(r, j, 0)] == what && slot[PART(r, j, 1)] == what && slot[PART(r, j, LAST)] == what)
#define ALL_IS(j, what) (SLOT_IS(0, j, what) && SLOT_IS(1, j, what) && SLOT_IS(LAST, j, what))
#define HEADERS_ARE(h) (header[HEADER(0, h)] == h && header[HEADER(1, h)] == h && header[HEADER(LAST, h)] == h)
#define INPUTS_ARE(h) (input[0] == h && input[1] == h && input[LAST] == h)

inline write_part(p, j, what) {
    slot[PART(0, j, p)] = what;
    slot[PART(1, j, p)] = what;
    slot[PART(LAST, j, p)] = what
}

inline write_slot(j, what) {
    slot[PART(me, j, 0)] = what;
    slot[PART(me, j, 1)] = what;
    slot[PART(me, j, LAST)] = what
}

/* A rank's own part, which the code does not stage in a two_shot, is staged here too: one more thing to go wrong. */
inline stage_chunk(j) {
    d_step { write_slot(j, TORN(me)) };
    d_step {
        assert(SLOT_IS(me, j, TORN(me)));
        write_slot(j, INPUT(j))
    }
}

/* ---- the algorithms; chunks `first` to `last` ---- */

inline next_chunk() {
    if
    :: j < last ->
        stage_chunk(j + 1);
        staged[me] = j + 1
    :: else
    fi;
#ifndef MUTANT_NO_WAIT_FOR_INPUTS
    if
    :: j > first -> await_all(staged[r] >= j)
    :: else
    fi
#endif
}

inline run_one_shot() {
    j = first;
    do
    :: j <= last ->
        next_chunk();
        assert(ALL_IS(j, INPUT(j)));
        assert(ALL_IS(j, INPUT(j)));
        j++
    :: else -> break
    od
}

inline gather_chunk(k) {
#ifndef MUTANT_NO_WAIT_FOR_RESULTS
    await_all(reduced[r] >= k);
#endif
    assert(SLOT_IS(me, k, RESULT(k)));
    assert(SLOT_IS(me, k, RESULT(k)))
}

/* The result replaces the input that it is made of, in all slots. */
inline reduce_part(j) {
    d_step {
        assert(PART_IS(me, j, INPUT(j)));
        write_part(me, j, TORN(me))
    };
    d_step {
        assert(PART_IS(me, j, TORN(me)));
        write_part(me, j, RESULT(j))
    }
}

inline run_two_shot() {
    j = first;
    do
    :: j <= last ->
        next_chunk();
        reduce_part(j);
        reduced[me] = j;
        if
        :: j > first -> gather_chunk(j - 1)
        :: else
        fi;
        j++
    :: else -> break
    od;
    gather_chunk(last)
}

inline run_direct() {
    assert(INPUTS_ARE(h));
    r = 0;
    do
    :: r < RANKS -> output[r * RANKS + me] = h; r++
    :: else -> break
    od;
    assert(INPUTS_ARE(h));
    reduced[me] = first;
#ifndef MUTANT_NO_SECOND_MEETING
    await_all(reduced[r] >= first)
#endif
}

/* One round of the token is as good as many; then rank 0 gives out the outcome. */
inline run_probe() {
    t++;
    if
    :: me == 0 ->
        token[0] = t;
        await(token[RANKS - 1] >= t, RANKS - 1);
        t++;
        signal = TORN(0);
        signal = t;
        token[0] = t
    :: else ->
        await(token[me - 1] >= t, me - 1);
        token[me] = t;
        t++;
        await(token[0] >= t, 0);
        token[me] = t
    fi;
    assert(signal == t);
    assert(signal == t)
}

/* ---- an operation ---- */

/* What a header says: whether the buffers are registered, and the caller's arguments. */
#define SAY(registered, odd) ((registered) + 2 * (odd))

inline announce(registered, odd) {
    h++;
    header[HEADER(me, h)] = TORN(me);
    if
    :: registered -> input[me] = h
    :: !(registered) && kind[op] != one_shot_inline && kind[op] != probe -> stage_chunk(first)
    :: else
    fi;
    d_step {
        says[HEADER(me, h)] = SAY(registered, odd);
        header[HEADER(me, h)] = h
    }
    number[HEADER(me, h)] = h
}

/* `differ`: whether ranks say different things. The header is read from here to the end of the operation. */
inline meet() {
    r = 0;
    do
    :: r < RANKS && r != me ->
        await(number[HEADER(r, h)] >= h, r);
        d_step {
            assert(header[HEADER(r, h)] == h);
            differ = differ || says[HEADER(r, h)] != says[HEADER(me, h)];
            r++
        }
    :: r == me -> r++
    :: r >= RANKS -> break
    od;
    r = 0
}

inline run_together() {
    last = first + chunks[op] - 1;
    announce(kind[op] == direct || kind[op] == direct_one && me == 0, kind[op] == mismatch && me == 0);
    meet();
    if
    :: kind[op] == mismatch ->
        assert(differ);
        goto lost
    :: kind[op] == direct_one ->
        assert(differ);
        differ = false;
        announce(false, 0);
        meet()
    :: else
    fi;
    assert(!differ);
    if
    :: kind[op] == one_shot -> run_one_shot()
    :: kind[op] == two_shot || kind[op] == direct_one -> run_two_shot()
    :: kind[op] == direct -> run_direct()
    :: kind[op] == probe -> run_probe()
    :: else
    fi;
    assert(HEADERS_ARE(h));
    d_step {
        r = 0;
        do
        :: r < RANKS -> assert(kind[op] != direct || output[me * RANKS + r] == h); r++
        :: else -> break
        od;
        r = 0;
        input[me] = 0; /* the caller may write there again */
        first = last + 1
    }
}

proctype rank(byte me) {
    byte op, h, first = 1, last, j, r, t;
    bool differ;
    {
        do
        :: op < OPS ->
            if
            :: poison[me] != 0 -> goto failed
            :: poison[me] == 0
            fi;
            run_together();
            op++
        :: op == OPS -> goto leave
        od;
lost:
        assert(FAULTY);
        raise(me, r);
failed:
        assert(FAULTY && ready[poison[me] - 1]);
leave:
        left[me] = true
    } unless { killed[me] }
}

/* ---- faults from outside ---- */

/* The process of a rank may end at any time. */
proctype killer() {
    if
    :: killed[0] = true
    :: killed[1] = true
    :: killed[RANKS - 1] = true
    fi
}

/* Another thread of a rank calls onehop_comm_abort. */
proctype aborter(byte me) {
    byte r;
    raise(me, r);
    assert(poison[me] != 0 && ready[poison[me] - 1])
}

/* ---- the choice of a program ---- */

inline choose_chunks() {
    chunks[i] = 1;
    do
    :: chunks[i] < CHUNKS -> chunks[i]++
    :: break
    od
}

init {
    byte i;
    atomic {
        do
        :: i < OPS ->
            chunks[i] = 1;
            if
            :: kind[i] = one_shot_inline
            :: kind[i] = direct
            :: kind[i] = probe; chunks[i] = 0
            :: kind[i] = one_shot; choose_chunks()
            :: kind[i] = two_shot; choose_chunks()
            :: kind[i] = direct_one; choose_chunks()
#ifdef MISMATCH
            :: kind[i] = mismatch
#endif
            fi;
            i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < RANKS -> run rank(i); i++
        :: else -> break
        od;
#ifdef DEATH
        run killer();
#endif
#ifdef ABORT
        run aborter(0);
#endif
    }
}
