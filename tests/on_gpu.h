/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests on real GPUs share: a rank's GPU and communicator, all-reduces whose results are known to the bit,
 * and the cases. No CUDA call is made before a team has forked its ranks.
 */
#ifndef TESTS_ON_GPU_H
#define TESTS_ON_GPU_H

#include <stdatomic.h>

#include "gpu.h"
#include "harness.h"

enum { GPU_MIB = 1 << 20, GPU_MESSAGE = 8 * GPU_MIB, GPU_PLENTY_MS = 20000 };

/* ---- a rank: its process has one GPU to itself ---- */

typedef struct seat {
    int rank, nranks, index; /* index: which GPU */
    gpu_t *gpu;
    onehop_comm_t *comm;
    uint64_t operations; /* all-reduces that this communicator has run, replayed ones too */
} seat_t;

seat_t seat_take(int rank, int nranks);
/* Creates the team's communicator number `generation`, of the seat's rank and nranks. */
void seat_join(seat_t *seat, int generation, const onehop_config_t *wish);
void seat_leave(seat_t *seat);
void seat_give_back(seat_t *seat);

/* Fails if the communicator is broken. */
void seat_check_well(seat_t *seat);
/* Whether something that was launched has not ended. */
bool seat_busy(seat_t *seat);
/* Fails unless all that was launched ends well in time. */
void seat_settle(seat_t *seat, int64_t ms);
/* Fails unless memory can be allocated, filled, copied and read. */
void seat_check_context(seat_t *seat);
/* Polls until the communicator is broken, and returns how; ONEHOP_SUCCESS if it is not in time. */
onehop_result_t seat_await_error(seat_t *seat, int64_t ms);

/* A function of the driver that the library does not need. */
void *driver_function(const char *name);

/* Bytes of the current GPU's memory that are in use, by whomever. */
size_t gpu_memory_used(void);

/* Whether there is to be another round: rank 0 decides, for all. `on` is shared by the ranks, zero at first. */
bool goes_on(atomic_int on[2], int rank, int round, int64_t end_ns);

/* For files that include gpu_state.h. */
#define CHECK_CUDA(result)                                                                                             \
    do {                                                                                                               \
        CUresult code = (result);                                                                                      \
        CHECK(code == CUDA_SUCCESS, #result " failed: %d", (int)code);                                                 \
    } while (0)

/* ---- what is reduced ---- */

/* Input of this rank on the GPU, and the result of all ranks' inputs here. Any piece of the one gives that piece of the
 * other. */
typedef struct image {
    onehop_dtype_t dtype;
    onehop_op_t op;
    size_t bytes;
    unsigned char *input, *expected;
} image_t;

image_t image_new(seat_t *seat, onehop_dtype_t dtype, onehop_op_t op, size_t bytes);
void image_free(seat_t *seat, image_t *image);

/* ---- one all-reduce ---- */

typedef enum place { PLACE_INPUT, PLACE_COPY, PLACE_SAME, PLACES } place_t; /* where sendbuf is; SAME: in place */

typedef struct slot {
    unsigned char *send, *recv;
} slot_t;

typedef struct call {
    const image_t *image;
    slot_t slot;
    place_t place;
    size_t first, count;             /* elements of the image */
    unsigned send_shift, recv_shift; /* bytes off a multiple of 256 */
} call_t;

slot_t slot_new(seat_t *seat, size_t bytes);
void slot_free(seat_t *seat, slot_t *slot);

/* Of up to `bytes` bytes; the same on all ranks for the same rng. */
call_t call_draw(rng_t *rng, const image_t *images, int count, slot_t slot, size_t bytes);
/* Fills the place of the result with something else, and lays out the input. Asynchronous. */
void call_prepare(seat_t *seat, const call_t *call);
/* onehop_all_reduce and no more. */
onehop_result_t call_launch(seat_t *seat, const call_t *call);
/* After synchronisation; fails unless the result and what surrounds it are as they should be. */
void call_check(seat_t *seat, const call_t *call);

/* All-reduces of many sizes up to `bytes`, of every place, some in a row without synchronisation; all are checked. */
void sweep(seat_t *seat, const image_t *image, size_t bytes);

/* ---- cases ---- */

/* Each runs its own teams of `gpus` ranks at most. */
void case_stress(int gpus);
void case_mixed(int gpus);
void case_late(int gpus);
void case_killed_in_calls(int gpus);
void case_killed_in_graphs(int gpus);
void case_stopped(int gpus);
void case_abort(int gpus);
void case_lifetime(int gpus);
void case_bounds(int gpus);
void case_memory(int gpus);
void case_cache(int gpus);
void case_tuning(int gpus);
void case_register(int gpus);
void case_graphs(int gpus);
void case_streams(int gpus);
void case_replays(int gpus);
void case_streams_that_go(int gpus);
void case_two_comms(int gpus);
void case_broken_context(int gpus);

#endif
