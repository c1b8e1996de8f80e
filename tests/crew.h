/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that are threads of a unit test: each has a bootstrap and does its duty; what came of it is judged after. */
#ifndef TESTS_CREW_H
#define TESTS_CREW_H

#include <stdbool.h>

#include "base/status.h"
#include "bootstrap/bootstrap.h"

typedef struct sailor {
    int rank, nranks;
    oh_bootstrap_t *bootstrap;
    oh_patience_t patience;
    void *ctx;
    onehop_result_t result;    /* what the duty returned, */
    char error[OH_ERROR_TEXT]; /* and the last error then */
    char wrong[128];           /* what a duty found wrong, by sailor_wrong; "": nothing */
} sailor_t;

typedef onehop_result_t (*duty_fn)(sailor_t *sailor);

/*
 * Runs the duty on all ranks; `sailors` has room for them. `processes`: they meet over sockets, as processes do, and do
 * not know that they are one.
 */
void crew_run(int nranks, bool processes, duty_fn duty, void *ctx, sailor_t *sailors);

/* Waits for all ranks, who must come. */
void sailor_meet(sailor_t *sailor);
/* Remembers the first thing that is wrong. */
void sailor_wrong(sailor_t *sailor, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Descriptors that this process holds. */
int descriptors_now(void);

#endif
