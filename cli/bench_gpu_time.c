/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All-reduces on a GPU, timed and verified. Operations go over four pairs of buffers in turn, so that none finds its
 * own data where it left them. The clock is the GPU's: events before and after a graph of operations, or a series of
 * calls. Before the first event all ranks meet in an all-reduce, which no rank's GPU reaches before its graph is asked
 * for.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_gpu.h"
#include "data.h"
#include "device.h"
#include "samples.h"

enum {
    PAIRS = GPU_BENCH_PAIRS,
    OPERATIONS = 48, /* in one graph */
    OPERATIONS_LARGE = 20,
    LARGE = 8 << 20,
    WARM_REPLAYS = 3,
    DELAY_US = 100, /* longer than a rank needs to ask for a graph */
    ALIGNMENT = 4096,
};

static bool uses_graphs(const gpu_bench_t *bench) { return bench->options->mode == BENCH_GRAPH; }

static size_t bytes_of(const gpu_bench_t *bench, const gpu_subject_t *s) {
    return s->count * onehop_dtype_size(bench->options->dtype);
}

/* ---- operations ---- */

static bool enqueue(gpu_bench_t *bench, const gpu_subject_t *s, int index) {
    const bench_options_t *o = bench->options;
    char *recv = s->buffers->recv[index % PAIRS], *send = s->in_place ? recv : s->buffers->send[index % PAIRS];
    if (s->nccl) return nccl_all_reduce(bench->nccl, send, recv, s->count, o->dtype, o->op);
    rank_t *rank = bench->rank;
    return rank_try(rank, onehop_all_reduce(send, recv, s->count, o->dtype, o->op, rank->comm, gpu_stream(rank->gpu)));
}

/* `s` may be NULL: then there is nothing but the neighbour. */
static bool enqueue_all(gpu_bench_t *bench, const gpu_subject_t *s, int operations, bool neighbour) {
    rank_t *rank = bench->rank;
    for (int i = 0; i < operations; i++) {
        if (s != NULL && !enqueue(bench, s, i)) return false;
        if (neighbour && !rank_gpu(rank, gpu_stir(rank->gpu, bench->neighbour, bench->options->neighbour)))
            return false;
    }
    return true;
}

static bool capture(gpu_bench_t *bench, const gpu_subject_t *s, int operations, bool neighbour, gpu_graph_t *graph) {
    rank_t *rank = bench->rank;
    if (!rank_gpu(rank, gpu_capture_begin(rank->gpu))) return false;
    bool good = enqueue_all(bench, s, operations, neighbour);
    return rank_gpu(rank, gpu_capture_end(rank->gpu, good, graph)) && rank_meet(rank);
}

/* ---- verification ---- */

static data_t data_of(const gpu_bench_t *bench, uint64_t seed, int pair) {
    return (data_t){bench->options->dtype, bench->options->op, bench->rank->nranks, data_mix(seed + (uint64_t)pair)};
}

static bool fill(gpu_bench_t *bench, const gpu_subject_t *s, uint64_t seed) {
    rank_t *rank = bench->rank;
    size_t bytes = bytes_of(bench, s);
    for (int i = 0; i < PAIRS; i++) {
        data_t data = data_of(bench, seed, i);
        data_fill(&data, rank->rank, bench->host, s->count);
        if (!rank_gpu(rank, gpu_upload(rank->gpu, s->buffers->send[i], bench->host, bytes) &&
                                (s->in_place ? gpu_copy(rank->gpu, s->buffers->recv[i], s->buffers->send[i], bytes)
                                             : gpu_fill(rank->gpu, s->buffers->recv[i], 0xA5, bytes))))
            return false;
    }
    return true;
}

static bool run_pairs(gpu_bench_t *bench, const gpu_subject_t *s, bool graphs) {
    rank_t *rank = bench->rank;
    gpu_graph_t graph = {0};
    bool good;
    if (graphs) {
        good = capture(bench, s, PAIRS, false, &graph) && rank_gpu(rank, gpu_replay(rank->gpu, &graph));
    } else {
        good = enqueue_all(bench, s, PAIRS, false);
    }
    good = good && rank_settle(rank);
    gpu_graph_free(rank->gpu, &graph);
    return good;
}

/* One all-reduce of fresh data in each pair of buffers; *wrong is summed over the ranks. */
bool gpu_bench_verify(gpu_bench_t *bench, const gpu_subject_t *s, uint64_t seed, bool graphs, uint64_t *wrong) {
    rank_t *rank = bench->rank;
    uint64_t mine = 0;
    if (!fill(bench, s, seed) || !run_pairs(bench, s, graphs)) return false;
    for (int i = 0; i < PAIRS; i++) {
        data_t data = data_of(bench, seed, i);
        memset(bench->host, 0x5A, bytes_of(bench, s));
        if (!rank_gpu(rank, gpu_download(rank->gpu, bench->host, s->buffers->recv[i], bytes_of(bench, s))))
            return false;
        mine += data_check(&data, bench->host, s->count, NULL);
    }
    if (!rank_all_reduce_host(bench->control, &mine, 1, ONEHOP_UINT64, ONEHOP_SUM)) return false;
    *wrong += mine;
    return true;
}

/* ---- time ---- */

/* The samples of the slowest rank, in order; then their median and their 99th percentile. */
static bool sum_up(gpu_bench_t *bench, double *median, double *p99) {
    int rounds = bench->options->rounds;
    double *samples = bench->samples;
    if (!rank_all_reduce_host(bench->control, samples, (size_t)rounds, ONEHOP_FLOAT64, ONEHOP_MAX)) return false;
    samples_sort(samples, rounds);
    *median = samples_median(samples, rounds);
    *p99 = samples_quantile(samples, rounds, 0.99);
    return true;
}

/* In place, sums would grow from one series to the next until they are no numbers. */
static bool refill(gpu_bench_t *bench, const gpu_subject_t *s) {
    gpu_t *gpu = bench->rank->gpu;
    bool good = true;
    for (int i = 0; i < PAIRS && s != NULL && s->in_place && good; i++) {
        good = gpu_copy(gpu, s->buffers->recv[i], s->buffers->send[i], bytes_of(bench, s));
    }
    return rank_gpu(bench->rank, good);
}

/* All ranks begin at once; a graph when it has been asked for, calls while they are being made. */
static bool begin(gpu_bench_t *bench, const gpu_subject_t *s) {
    rank_t *rank = bench->rank;
    const bench_options_t *o = bench->options;
    return refill(bench, s) && (!uses_graphs(bench) || rank_gpu(rank, gpu_delay(rank->gpu, DELAY_US))) &&
           rank_try(rank, onehop_all_reduce(NULL, NULL, 0, o->dtype, o->op, rank->comm, gpu_stream(rank->gpu))) &&
           rank_gpu(rank, gpu_mark_start(rank->gpu));
}

static bool end(gpu_bench_t *bench, double *us) {
    rank_t *rank = bench->rank;
    return rank_gpu(rank, gpu_mark_end(rank->gpu)) && rank_settle(rank) &&
           rank_gpu(rank, gpu_elapsed_us(rank->gpu, us));
}

static bool time_replays(gpu_bench_t *bench, const gpu_subject_t *s, const gpu_graph_t *graph, double *median,
                         double *p99) {
    rank_t *rank = bench->rank;
    int warmup = bench->options->warmup >= 0 ? bench->options->warmup : WARM_REPLAYS;
    for (int i = -warmup; i < bench->options->rounds; i++) {
        double us;
        if (!begin(bench, s) || !rank_gpu(rank, gpu_replay(rank->gpu, graph)) || !end(bench, &us)) return false;
        if (i >= 0) bench->samples[i] = us;
    }
    return sum_up(bench, median, p99);
}

static bool time_graph(gpu_bench_t *bench, const gpu_subject_t *s, int operations, double *median, double *p99) {
    gpu_graph_t graph = {0};
    bool good =
        capture(bench, s, operations, bench->neighbour != NULL, &graph) && time_replays(bench, s, &graph, median, p99);
    gpu_graph_free(bench->rank->gpu, &graph);
    return good;
}

static bool time_calls(gpu_bench_t *bench, const gpu_subject_t *s, int operations, double *median, double *p99) {
    int warmup = bench->options->warmup >= 0 ? bench->options->warmup : WARM_REPLAYS;
    for (int i = -warmup; i < bench->options->rounds; i++) {
        double us;
        if (!begin(bench, s) || !enqueue_all(bench, s, operations, bench->neighbour != NULL) || !end(bench, &us))
            return false;
        if (i >= 0) bench->samples[i] = us;
    }
    return sum_up(bench, median, p99);
}

/* The time of one operation; what the neighbour takes alone is no part of it. */
bool gpu_bench_time(gpu_bench_t *bench, const gpu_subject_t *s, bench_time_t *time) {
    bool (*measure)(gpu_bench_t *, const gpu_subject_t *, int, double *, double *) =
        uses_graphs(bench) ? time_graph : time_calls;
    int operations = bytes_of(bench, s) < LARGE ? OPERATIONS : OPERATIONS_LARGE;
    if (bench->options->iters > 0) operations = bench->options->iters;
    double alone = 0, alone_p99 = 0;
    if (bench->neighbour != NULL && !measure(bench, NULL, operations, &alone, &alone_p99)) return false;
    if (!measure(bench, s, operations, &time->median_us, &time->p99_us)) return false;
    time->median_us = (time->median_us - alone) / operations;
    time->p99_us = (time->p99_us - alone) / operations;
    time->neighbour_us = alone / operations;
    return true;
}

static double thread_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

/* What a call costs the processor: that of the rank with the highest, the median of many series. */
bool gpu_bench_time_host(gpu_bench_t *bench, const gpu_subject_t *s, double *us) {
    double p99;
    for (int i = 0; i < bench->options->rounds; i++) {
        double start = thread_us();
        if (!enqueue_all(bench, s, OPERATIONS_LARGE, false)) return false;
        bench->samples[i] = (thread_us() - start) / OPERATIONS_LARGE;
        if (!rank_settle(bench->rank)) return false;
    }
    return sum_up(bench, us, &p99);
}

/* ---- memory ---- */

static size_t room_of(const gpu_bench_t *bench) {
    return (bench->options->max_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

size_t gpu_bench_bytes(const gpu_bench_t *bench) { return 2 * PAIRS * room_of(bench); }

void gpu_bench_lay_out(const gpu_bench_t *bench, char *memory, gpu_buffers_t *out) {
    for (size_t i = 0; i < PAIRS; i++) {
        out->send[i] = memory + 2 * i * room_of(bench);
        out->recv[i] = memory + (2 * i + 1) * room_of(bench);
    }
}

bool gpu_bench_open(gpu_bench_t *bench, rank_t *rank, const bench_options_t *o) {
    *bench = (gpu_bench_t){.rank = rank, .control = rank, .options = o};
    bench->host = malloc(o->max_bytes);
    bench->samples = calloc((size_t)o->rounds, sizeof *bench->samples);
    if (bench->host == NULL || bench->samples == NULL) return rank_fail(rank, "no memory for %zu bytes", o->max_bytes);
    if (!rank_gpu(rank, (bench->memory = gpu_alloc(rank->gpu, gpu_bench_bytes(bench))) != NULL)) return false;
    gpu_bench_lay_out(bench, bench->memory, &bench->ours);
    if (o->registered && !rank_try(rank, onehop_register(rank->comm, bench->memory, gpu_bench_bytes(bench))))
        return false;
    if (o->neighbour > 0 &&
        !rank_gpu(rank, (bench->neighbour = gpu_alloc(rank->gpu, o->neighbour)) != NULL &&
                            gpu_fill(rank->gpu, bench->neighbour, 0, o->neighbour) && gpu_synchronize(rank->gpu)))
        return false;
    return rank_meet(rank);
}

void gpu_bench_close(gpu_bench_t *bench) {
    gpu_free(bench->control->gpu, bench->memory);
    gpu_free(bench->control->gpu, bench->neighbour);
    free(bench->samples);
    free(bench->host);
}
