/* SPDX-License-Identifier: Apache-2.0 */
/* All-reduces on a GPU, timed and verified: what `onehop bench` does for each size, and `onehop tune` for each shape.
 */
#ifndef CLI_BENCH_GPU_H
#define CLI_BENCH_GPU_H

#include "bench.h"
#include "nccl.h"

enum { GPU_BENCH_PAIRS = 4 };

typedef struct gpu_buffers {
    char *send[GPU_BENCH_PAIRS], *recv[GPU_BENCH_PAIRS];
} gpu_buffers_t;

typedef struct gpu_bench {
    rank_t *rank;    /* whose communicator is measured */
    rank_t *control; /* the same, or with another communicator: through it the ranks gather what they found */
    const bench_options_t *options;
    unsigned char *host; /* one message */
    char *memory, *neighbour;
    gpu_buffers_t ours, window;
    double *samples;
    nccl_t *nccl; /* NULL: no peer; the caller's */
} gpu_bench_t;

/* What is measured: an all-reduce of one of the systems. */
typedef struct gpu_subject {
    bool nccl;
    const gpu_buffers_t *buffers;
    size_t count;
    bool in_place;
} gpu_subject_t;

/* Memory for the largest message, registered if the options say so; on failure, too, it ends with gpu_bench_close. */
bool gpu_bench_open(gpu_bench_t *bench, rank_t *rank, const bench_options_t *options);
/* Once nothing is registered any more, or the communicator does not work. */
void gpu_bench_close(gpu_bench_t *bench);

/* Bytes of all buffers together; buffers that lie in `memory` of so many bytes. */
size_t gpu_bench_bytes(const gpu_bench_t *bench);
void gpu_bench_lay_out(const gpu_bench_t *bench, char *memory, gpu_buffers_t *out);

/*
 * Collective; the same results on all ranks. What was not called yet is verified by calls before it is captured into
 * `graphs`; *wrong grows by the elements that are, on all ranks.
 */
bool gpu_bench_verify(gpu_bench_t *bench, const gpu_subject_t *s, uint64_t seed, bool graphs, uint64_t *wrong);
/* Of one operation; what the neighbour takes alone is no part of it. */
bool gpu_bench_time(gpu_bench_t *bench, const gpu_subject_t *s, bench_time_t *time);
/* What a call costs the processor. */
bool gpu_bench_time_host(gpu_bench_t *bench, const gpu_subject_t *s, double *us);

#endif
