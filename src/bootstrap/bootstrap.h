/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How ranks find each other, and what they say before shared memory exists (and again when they register buffers).
 *
 *   bootstrap.c   opens one of two transports, and checks that the ranks agree:
 *   mesh*.[ch]    for processes: a Unix socket between every two; messages, descriptors (SCM_RIGHTS), notice of death
 *   local.[ch]    for threads of one process, and for a rank alone
 *   transport.*   what both have in common
 *   agree.[ch]    makes one rank's failure that of all
 *   card.[ch]     what a rank tells the others of itself; encoding, and the check that all agree (pure functions)
 *   rendezvous*   all-gather of cards between processes, unless the caller brings one: rank 0 listens (listen) and
 * gathers (hub), the others join sock, wire    what little all need of sockets and bytes
 */
#ifndef OH_BOOTSTRAP_BOOTSTRAP_H
#define OH_BOOTSTRAP_BOOTSTRAP_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/config.h"
#include "bootstrap/card.h"
#include "onehop.h"

typedef struct oh_bootstrap oh_bootstrap_t;
typedef struct oh_local_group oh_local_group_t;

/* Asked now and then by calls that wait: anything but ONEHOP_SUCCESS ends the wait with that result. May set the last
 * error. */
typedef onehop_result_t (*oh_interrupt_fn)(void *ctx);

/* Meets the other ranks as `config` says, exchanges cards, checks that they agree, connects: all within
 * config->bootstrap_timeout_ms. */
onehop_result_t oh_bootstrap_open(const oh_config_t *config, oh_bootstrap_t **out);

/* Ranks as threads: make a group for nranks, open one bootstrap per rank (each on its own thread), release the group.
 */
onehop_result_t oh_local_group_create(int nranks, oh_local_group_t **out);
void oh_local_group_release(oh_local_group_t *group); /* freed with the last bootstrap that uses it */
onehop_result_t oh_bootstrap_open_local(const oh_config_t *config, oh_local_group_t *group, oh_bootstrap_t **out);

int oh_bootstrap_rank(const oh_bootstrap_t *b);
int oh_bootstrap_nranks(const oh_bootstrap_t *b);
bool oh_bootstrap_same_process(const oh_bootstrap_t *b);
const oh_card_t *oh_bootstrap_card(const oh_bootstrap_t *b, int rank);
pid_t oh_bootstrap_pid(const oh_bootstrap_t *b, int rank); /* as seen from this process */

/* Collective calls wait at most timeout_ms, and ask `interrupt` (may be NULL). */
typedef struct oh_patience {
    int timeout_ms;
    oh_interrupt_fn interrupt;
    void *ctx;
} oh_patience_t;

/* bytes_each <= 4096. `what` names the exchange ("register", ...): ranks that differ in it get ONEHOP_MISMATCH. */
onehop_result_t oh_bootstrap_allgather(oh_bootstrap_t *b, const char *what, const void *mine, void *all,
                                       size_t bytes_each, const oh_patience_t *patience);

/*
 * Gives descriptor `fd` (or -1 for none) to every peer: fds[r] receives an own duplicate of rank r's, -1 where there
 * is none, and at [own rank] -1. The caller closes them. On failure no descriptor is left open.
 */
onehop_result_t oh_bootstrap_exchange_fd(oh_bootstrap_t *b, const char *what, int fd, int *fds,
                                         const oh_patience_t *patience);

/*
 * Without waiting: whether the process of a peer is gone (or its socket closed). Any thread. gone[r] is set for each
 * such rank; returns how many. Always 0 in one process.
 */
int oh_bootstrap_gone(oh_bootstrap_t *b, bool *gone);

/* In a child made by fork: frees and closes, and tells nobody. */
void oh_bootstrap_close(oh_bootstrap_t *b);

#endif
