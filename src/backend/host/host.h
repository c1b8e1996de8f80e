/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host backend: ranks are processes (or threads) that share memory.
 *
 *   host.c           an operation from its header to its end; what the backend offers to the library
 *   one_shot.c, two_shot.c, direct.c    the algorithms
 *   wait.c           waiting for a peer: spin, yield, sleep; deadline, death, abort
 *   registry.c       buffers that the peers may read and write directly
 *   probe.c          measures how far apart the ranks are
 *   reduce*.c, copy.c    arithmetic over memory
 *
 * HOW RANKS KEEP IN STEP
 *
 * All ranks count alike: operations (h = 1, 2, ...; a header each) and chunks (j = 1, 2, ...; a slot each in the
 * rings). Every shared word is written by its owner alone and only grows, with a release store; peers wait for it with
 * acquire loads. What a rank wrote before the store is therefore what a peer sees after the wait. There are no words by
 * which a reader says that it has finished: that follows from the order in which everybody works.
 *
 * Headers. header[h % 2] is written to begin h, which a rank does after it has ended h-1, and it ended h-1 only after
 * it saw every peer's header h-1. A peer that has published h-1 has ended h-2, and reads no header h-2 any more. So
 * when header h replaces header h-2 nobody reads it.
 *
 * Slots. Chunk j lies in slot j % 4 of every rank. A rank publishes chunk j (word `staged`, or the header for an
 * operation's first chunk) only after it has reduced chunk j-2 [R1: at most one chunk is staged ahead], and it reduces
 * j only after it has seen that every peer published j [R2]. So when a rank puts j over j-4 it has reduced j-2, hence
 * by R2 every peer had published j-2, hence by R1 every peer had reduced j-4 and reads it no more. Three slots would
 * not do.
 *
 * In a two_shot the peers also write: after R2, rank p reads its part of chunk j in everybody's slot, puts the result
 * in its place, and publishes `reduced` j. Parts are apart, and nobody else touches that part between the owner's
 * publishing and p's. The owner reads the slot after it has seen `reduced` j of all, and it does so (gather) before it
 * stages j+3 [R3: the order of work is stage j+1, reduce j, gather j-1] or ends the operation: it cannot overwrite what
 * it has not taken, nor be overtaken by a peer's write.
 *
 * direct does the same to the peers' buffers instead of slots, between two meetings of all ranks: the headers, and the
 * word `reduced`. It takes one chunk number for the second meeting, so that R1 and R2 hold for it trivially.
 *
 * tests/model checks all this with Spin.
 */
#ifndef OH_BACKEND_HOST_HOST_H
#define OH_BACKEND_HOST_HOST_H

#include "arena/arena.h"
#include "backend/backend.h"
#include "backend/host/reduce.h"
#include "backend/host/registry.h"
#include "base/dtype.h"
#include "select/select.h"
#include "select/tuning.h"

typedef struct oh_host {
    oh_backend_t backend;
    oh_config_t config;
    oh_bootstrap_t *bootstrap; /* not ours */
    int rank, nranks;
    oh_topology_t topology;
    oh_forced_t forced;
    oh_host_tuning_t tuning;

    oh_arena_t arena;
    oh_layout_t layout;
    oh_segment_t *segment[ONEHOP_MAX_RANKS];
    oh_faults_t faults;
    oh_registry_t registry;

    oh_simd_t simd;
    oh_reduce_fn reduce[OH_DTYPES][OH_OPS];

    const oh_request_t *request; /* under way; NULL between operations */
    uint64_t header;             /* of the present or last operation */
    uint64_t chunk;              /* last chunk number that an operation has used */
    uint64_t operation; /* all-reduces begun, for people; `header` runs ahead of it where headers are sent twice */
    uint64_t token;     /* rounds of the probe so far */
    int64_t probe_ns;   /* rank 0: when to measure the signal time again */
    int64_t probe_interval_ns; /* and how long after that */
} oh_host_t;

/* One operation under way. */
typedef struct oh_host_op {
    const oh_request_t *request;
    oh_plan_t plan;
    const unsigned char *send;
    unsigned char *recv;
    size_t bytes;
    uint64_t first;  /* number of its first chunk */
    uint64_t chunks; /* chunk numbers that it uses */
    oh_reduce_fn reduce;
    oh_place_t send_place, recv_place; /* in the registry, when both are registered */
} oh_host_op_t;

/* An algorithm: `stage` runs before the header is published, `run` once all ranks' headers have been seen. */
typedef struct oh_host_algorithm {
    void (*stage)(oh_host_t *host, const oh_host_op_t *op);
    onehop_result_t (*run)(oh_host_t *host, const oh_host_op_t *op);
} oh_host_algorithm_t;

extern const oh_host_algorithm_t oh_host_one_shot, oh_host_two_shot, oh_host_direct;

static inline oh_header_t *oh_host_header(const oh_host_t *host, int rank) {
    return &host->segment[rank]->ring[host->header % OH_HEADERS].header;
}

/* rank's slot for the op's chunk c = 0, 1, ... */
static inline unsigned char *oh_host_slot(const oh_host_t *host, const oh_host_op_t *op, int rank, uint64_t c) {
    return host->arena.base[rank] + OH_PAGE + (op->first + c) % OH_SLOTS * host->layout.chunk_bytes;
}

/* Bytes of the op's chunk number c = 0, 1, ...: all plan.chunk_bytes long but the last. */
static inline size_t oh_host_chunk_length(const oh_host_op_t *op, uint64_t c) {
    size_t left = op->bytes - (size_t)c * op->plan.chunk_bytes;
    return left < op->plan.chunk_bytes ? left : op->plan.chunk_bytes;
}

/* Stores a word that peers wait for, with release, and wakes those who sleep. */
void oh_host_publish(oh_host_t *host, _Atomic uint64_t *word, uint64_t value);

/* Waits until rank's `word` has reached `value`; acquire. Fails, breaking the communicator, as DESIGN "never a hang"
 * says. */
onehop_result_t oh_host_wait(oh_host_t *host, int rank, const _Atomic uint64_t *word, uint64_t value);

/* The same for this word of all peers; `offset` is the word's offset in oh_segment_t. */
onehop_result_t oh_host_wait_all(oh_host_t *host, size_t offset, uint64_t value);

/* Rank 0 alone decides when to measure again, and says so in its header, so that all do it after the same operation. */
bool oh_host_probe_is_due(const oh_host_t *host);

/* Collective, between operations: measures the signal time and places the ranks by it. */
onehop_result_t oh_host_probe(oh_host_t *host);

#endif
