/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a communicator breaks, on all ranks at once and for ever.
 *
 * Each rank's segment holds a record (what this rank found wrong) and a poison word (which rank's record has broken
 * this rank). Whoever finds a fault writes its own record once, then sets the poison word of every rank that has none.
 *
 *   record   written by its owner alone: `claimed` lets one of its threads win; the text is published by the release
 *            store of `ready` and never changes again.
 *   poison   any rank, compare-and-swap from 0: the first fault to reach a rank stays that rank's for ever. The release
 *            of that swap comes after `ready`, so who reads the poison (acquire) may read the record it names.
 *   left     written by its owner when it destroys the communicator in good order; read by peers whose wait is long.
 *
 * A rank that dies half-way through leaves either no trace, or a complete record: the others notice its death anyway.
 */
#ifndef OH_ARENA_FAULT_H
#define OH_ARENA_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "bootstrap/bootstrap.h"

typedef struct oh_fault {
    _Atomic uint32_t poison; /* 1 + the rank whose record has broken this rank; 0: not broken */
    _Atomic uint32_t claimed;
    _Atomic uint32_t ready;
    _Atomic uint32_t left;
    int32_t code;
    char text[OH_ERROR_TEXT];
} oh_fault_t;

/* The faults of all ranks, as one of them sees them. */
typedef struct oh_faults {
    int rank, nranks;
    oh_fault_t *of[ONEHOP_MAX_RANKS];
} oh_faults_t;

/* Breaks all ranks with `code` and the sentence, unless this rank is broken already; returns what this rank has. */
onehop_result_t oh_fault_raise(oh_faults_t *faults, onehop_result_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A collective call that left the ranks out of step has broken the communicator. */
onehop_result_t oh_fault_settle(oh_faults_t *faults, onehop_result_t result, bool broken);

/* For oh_patience_t: nobody waits on in a communicator that is broken. `faults` is an oh_faults_t. */
onehop_result_t oh_fault_interrupt(void *faults);

/* What this rank's poison word says, with the sentence as last error; call it when oh_fault_present. */
onehop_result_t oh_fault_get(oh_faults_t *faults);

static inline bool oh_fault_present(const oh_faults_t *faults) {
    return atomic_load_explicit(&faults->of[faults->rank]->poison, memory_order_acquire) != 0;
}

/* Breaks all ranks if the process of a peer is gone, without waiting; `when` says what noticed it. Any thread. */
onehop_result_t oh_fault_find_lost(oh_faults_t *faults, oh_bootstrap_t *bootstrap, const char *when);

/* Breaks all ranks because this one's caller wants it. Any thread. */
void oh_fault_abort(oh_faults_t *faults);

/* This rank goes in good order; and whether a rank has gone so. */
void oh_fault_leave(oh_faults_t *faults);
bool oh_fault_has_left(const oh_faults_t *faults, int rank);

#endif
