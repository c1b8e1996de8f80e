/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `onehop check`.
 *
 *   check.c       options; which cases a run has; the sweep over runs
 *   check_case.c  one case: an all-reduce and all that it could have spoiled
 */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include <onehop.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"
#include "ranks.h"

enum {
    CHECK_GUARD = 64,              /* bytes watched on either side of a result */
    CHECK_SLACK = 4 * CHECK_GUARD, /* room for guards and misalignment */
};

typedef struct check_options {
    ranks_t ranks;
    range_t nranks;
    double seconds;
    size_t max_bytes;
    const char *algorithm; /* NULL: every one in turn */
    onehop_dtype_t dtype;  /* the only one; one that is none: every one */
    onehop_op_t op;        /* the same */
    uint64_t seed;
} check_options_t;

/* What a run tells the one who started it; shared by the ranks, who all store the same. */
typedef struct check_totals {
    _Atomic uint64_t passed, failed;
    atomic_int nranks, device;
    atomic_int described;  /* failures so far, of all runs */
    atomic_bool was_first; /* whether rank 0, which prints, was among us */
} check_totals_t;

/* One run as one rank sees it. All but the counters and what is in memory is the same on all ranks. */
typedef struct check_run {
    rank_t *rank;
    const check_options_t *options;
    const char *algorithm;
    int64_t deadline_ns;
    check_totals_t *totals;
    uint64_t seed, draws;
    /* Ordinary, registered; each with room for a send and a receive buffer. On a GPU these are copies of the next. */
    unsigned char *memory[2], *on_gpu[2];
    uint64_t passed, failed;
} check_run_t;

typedef struct check_case {
    onehop_dtype_t dtype;
    onehop_op_t op;
    size_t count;
    bool in_place, registered;
    bool captured; /* into a graph that is replayed with fresh data */
    uint64_t seed;
} check_case_t;

/* Collective. Counts whether the case passed; false, with the rank's failure noted, if it could not be run. */
bool check_case_run(check_run_t *run, const check_case_t *c);

#endif
