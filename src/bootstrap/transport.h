/* SPDX-License-Identifier: Apache-2.0 */
/* What the mesh of sockets and the group of threads have in common: the interface behind oh_bootstrap_t, and words. */
#ifndef OH_BOOTSTRAP_TRANSPORT_H
#define OH_BOOTSTRAP_TRANSPORT_H

#include <stdint.h>

#include "bootstrap/bootstrap.h"

typedef struct oh_transport oh_transport_t;

typedef struct oh_transport_ops {
    onehop_result_t (*allgather)(oh_transport_t *transport, const char *what, const void *mine, void *all,
                                 size_t bytes_each, const oh_patience_t *patience);
    onehop_result_t (*exchange_fd)(oh_transport_t *transport, const char *what, int fd, int *fds,
                                   const oh_patience_t *patience);
    int (*gone)(oh_transport_t *transport, bool *gone);
    pid_t (*pid)(const oh_transport_t *transport, int rank);
    void (*close)(oh_transport_t *transport);
} oh_transport_ops_t;

/* The first member of each of them. */
struct oh_transport {
    const oh_transport_ops_t *ops;
};

enum { OH_EXCHANGE_MAX = 4096, OH_WAIT_SLICE_MS = 20, OH_RANKS_TEXT = 256 };

/* What a rank has come for; all must have come for the same. */
typedef struct oh_exchange {
    char what[32];
    uint32_t bytes;
    uint32_t descriptor; /* 1: a descriptor goes with it or may go with it; 0: bytes alone */
} oh_exchange_t;

oh_exchange_t oh_exchange_make(const char *what, size_t bytes, bool descriptor);
bool oh_exchange_equal(const oh_exchange_t *a, const oh_exchange_t *b);

/* MISMATCH naming rank a's and rank b's. */
onehop_result_t oh_exchange_mismatch(int a, const oh_exchange_t *left, int b, const oh_exchange_t *right);

/* "rank 2" or "ranks 2, 3": those of 0 ... nranks-1 that are set. */
void oh_ranks_text(const bool *set, int nranks, char text[OH_RANKS_TEXT]);

onehop_result_t oh_patience_ask(const oh_patience_t *patience);

#endif
