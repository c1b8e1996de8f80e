/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a function as every rank of a communicator: in processes, in threads, or as the one rank that this process is.
 */
#ifndef CLI_RANKS_H
#define CLI_RANKS_H

#include <onehop.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ranks {
    int nranks;   /* 0: a launcher has made this process a rank, and its environment says which */
    bool threads; /* of this process, instead of processes */
    onehop_device_t device;
    const char *algorithm; /* NULL: as ONEHOP_ALGORITHM says */
    int timeout_ms;        /* 0: as ONEHOP_TIMEOUT_MS says */
    bool timed;            /* note when the making of the communicator begins, on all ranks at once, GPUs at hand */
} ranks_t;

/* Fills in what was not given: the launcher's environment if there is one, else as many ranks as processors (2 to 8).
 */
void ranks_resolve(ranks_t *ranks);

/* How many GPUs ranks would be spread over; 0: they will not use one, or somebody else has said which. */
int ranks_gpus(const ranks_t *ranks);

/* One rank, as its function sees it. */
typedef struct rank {
    int rank, nranks;
    onehop_comm_t *comm;
    struct board *board; /* where failures are noted */
    bool threads;        /* of one process, which may share a GPU */
    struct gpu *gpu;     /* the rank's stream is here; NULL on the host */
    void *staging;       /* memory on the GPU for device.c */
    int64_t begun_ns;    /* when its communicator was asked for, if that is timed */
} rank_t;

/*
 * Returns whether all is well. What it prints must have arrived before it returns. `ctx` is the caller's own in a
 * thread, and a copy of it in a process: results travel in memory from shared_alloc.
 */
typedef bool (*rank_fn)(rank_t *self, void *ctx);

/* Runs `body` on all ranks, complains of the first failure, returns the exit status. Does not outwait a dead rank. */
int ranks_run(const ranks_t *ranks, rank_fn body, void *ctx);

/* In a rank: notes why it failed, for ranks_run to show the first such note of all ranks. Returns false. */
bool rank_fail(rank_t *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* In a rank: whether a call of the library succeeded; notes its error if not. */
bool rank_try(rank_t *self, onehop_result_t result);
/* In a rank: whether what it printed has arrived; notes why if not. */
bool rank_printed(rank_t *self);

/* In a rank: replaces *value by that of rank 0. Collective. */
bool rank_agree(rank_t *self, uint64_t *value);

/*
 * In a rank: waits for the others if all are threads of one process, without an all-reduce; returns whether nobody has
 * failed. To be called between making memory or a graph and using it, where ranks may share a GPU: the making may wait
 * for all that runs there, and that for us.
 */
bool rank_meet(rank_t *self);

/*
 * In a rank: another communicator of the same ranks on the same device, with settings of its own; they find each other
 * through that of `self`, which goes on. Collective. What `branch` notes and measures is as a rank's own.
 */
bool rank_branch(rank_t *self, const onehop_config_t *settings, rank_t *branch);
/* Once all ranks have ended what they do on it. */
bool rank_branch_end(rank_t *branch);

/* Zeroed memory that the ranks share with who starts them; NULL if there is none left. */
void *shared_alloc(size_t bytes);
void shared_free(void *memory, size_t bytes);

#endif
