/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `onehop bench`.
 *
 *   bench.c          options; the rank's loop over sizes
 *   bench_measure.c  one measurement on the host
 *   bench_gpu.c      the rank's loop on a GPU
 *   bench_gpu_time.c one measurement there
 *   bench_report.c   the table and the JSON file
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include <onehop.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parse.h"
#include "ranks.h"

/* What a measurement repeats: calls, or on a GPU also a graph of calls. */
typedef enum bench_mode { BENCH_EAGER, BENCH_GRAPH } bench_mode_t;

typedef struct bench_options {
    ranks_t ranks;
    size_t min_bytes, max_bytes;
    int factor;
    sizes_t sizes; /* what comes of these three, unless it is given */
    onehop_dtype_t dtype;
    onehop_op_t op;
    int iters, warmup; /* -1: as many as the message's size asks for */
    bool registered;
    const char *json;
    uint64_t seed;

    /* On a GPU. */
    const char *mode_name; /* NULL: graphs where there is a GPU */
    bench_mode_t mode;
    int rounds;
    size_t neighbour; /* bytes that a kernel between operations reads and writes */
    const char *peer, *nccl;
} bench_options_t;

/* Lists the sizes that the options ask for, and the smallest and the largest of them. Returns PARSE_GO_ON; or, having
 * complained, the exit status. */
int bench_list_sizes(bench_options_t *options);

/* ---- one measurement ---- */

typedef struct bench_call {
    void *send, *recv; /* the same: in place */
    size_t count;
    onehop_dtype_t dtype;
    onehop_op_t op;
} bench_call_t;

/* Of one operation, on the slowest rank. */
typedef struct bench_time {
    double median_us, p99_us;
    double host_us;      /* on a GPU: what a call costs the processor */
    double neighbour_us; /* on a GPU: what the neighbour takes alone; 0 without one */
} bench_time_t;

/* One all-reduce of fresh data into a buffer that held none of the result; *wrong grows by the elements of all ranks
 * that are wrong. Collective. */
bool bench_verify(rank_t *rank, const bench_call_t *call, uint64_t seed, uint64_t *wrong);
/* Collective; the same results on all ranks. */
bool bench_median(rank_t *rank, const bench_call_t *call, double us, double *median_us); /* `us` at least in all */
bool bench_measure(rank_t *rank, const bench_call_t *call, int iters, int warmup, bench_time_t *time);

/* ---- the report, made by rank 0 ---- */

enum { BENCH_NCCL, BENCH_NCCL_WINDOW, BENCH_PEERS };

typedef struct bench_row {
    size_t bytes, count;
    bool in_place;
    bench_time_t time;
    uint64_t wrong; /* elements, summed over all ranks */
    onehop_choice_t choice;
    double peers[BENCH_PEERS]; /* their time; 0: not measured */
} bench_row_t;

typedef struct bench_report bench_report_t;

/* NULL, with the rank's failure noted, if it cannot be made. Prints the table's head, unless a peer is awaited. */
bench_report_t *bench_report_open(rank_t *rank, const bench_options_t *options);
/* The peer that will be in the rows, by its version; prints the head. Before the first row. */
void bench_report_peer(bench_report_t *report, const char *version);
/* Out of place, then in place, alternately. */
bool bench_report_add(bench_report_t *report, const bench_row_t *row);
/* If the series is `complete`, prints the foot and writes the JSON file. Frees the report. */
bool bench_report_close(bench_report_t *report, bool complete);

/* ---- the series on a GPU ---- */

bool bench_on_gpu(rank_t *rank, const bench_options_t *options, bench_report_t *report, uint64_t seed);

#endif
