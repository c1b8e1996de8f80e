/* SPDX-License-Identifier: Apache-2.0 */
/* NCCL as a peer in a benchmark: opened at run time, so that nobody needs it to build or to run. */
#ifndef CLI_NCCL_H
#define CLI_NCCL_H

#include <onehop.h>
#include <stdbool.h>
#include <stddef.h>

#include "ranks.h"

typedef struct nccl nccl_t;

/*
 * Opens `file`, or libnccl.so.2 where the loader finds it if that is NULL, and makes a communicator of the same ranks.
 * With `window_bytes` it also asks for memory in a window of that size, which not every NCCL has. Collective; NULL,
 * with the rank's failure noted, if it cannot be done.
 */
nccl_t *nccl_open(rank_t *rank, const char *file, size_t window_bytes);
void nccl_close(nccl_t *nccl);

/* "2.28.9" */
const char *nccl_version(const nccl_t *nccl);
/* Memory registered with NCCL on all ranks; NULL if there is none. */
void *nccl_window(const nccl_t *nccl);
/* On the rank's stream. Collective; notes the rank's failure. */
bool nccl_all_reduce(nccl_t *nccl, const void *send, void *recv, size_t count, onehop_dtype_t dtype, onehop_op_t op);

#endif
