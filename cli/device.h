/* SPDX-License-Identifier: Apache-2.0 */
/* The device under a rank: how its communicator's all-reduces reach the command's own few numbers, and how it meets
 * others that share a GPU with it. */
#ifndef CLI_DEVICE_H
#define CLI_DEVICE_H

#include "gpu.h"
#include "ranks.h"

/* Gives the rank a GPU before it has a communicator. */
bool device_open(rank_t *rank, int index);
/* On CUDA, gives the rank the GPU of its communicator, or makes the one that it has its own on this thread. */
bool device_enter(rank_t *rank);
/* After the communicator has gone. */
void device_leave(rank_t *rank);

/* Whether a call of gpu.h succeeded; notes its error if not. */
bool rank_gpu(rank_t *rank, bool good);
/* Waits for the rank's all-reduces, and asks whether the communicator still works. */
bool rank_settle(rank_t *rank);

/* An all-reduce of what is in the host's memory, in place; returns when it is done. `count` may be 0. */
bool rank_all_reduce_host(rank_t *rank, void *buffer, size_t count, onehop_dtype_t dtype, onehop_op_t op);

#endif
