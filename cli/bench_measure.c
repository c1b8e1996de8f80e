/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One measurement on the host. The median is that of batches so long that reading the clock is nothing beside them; the
 * 99th percentile is that of single operations, one after the other. A batch, or an operation, takes as long as on the
 * slowest rank.
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"
#include "device.h"

enum { SAMPLES_MAX = 10000, SAMPLES_MIN = 5, WARMUP_MAX = 1 << 20 };
static const double batch_us = 100, series_us = 50e3, warmup_us = 10e3;

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

static bool run_once(rank_t *rank, const bench_call_t *c) {
    return rank_try(rank, onehop_all_reduce(c->send, c->recv, c->count, c->dtype, c->op, rank->comm, NULL));
}

/* The ranks begin together. */
static bool run_batch(rank_t *rank, const bench_call_t *call, int operations, double *spent_us) {
    if (!rank_try(rank, onehop_all_reduce(NULL, NULL, 0, call->dtype, call->op, rank->comm, NULL))) return false;
    double start = now_us();
    for (int i = 0; i < operations; i++) {
        if (!run_once(rank, call)) return false;
    }
    *spent_us = now_us() - start;
    return true;
}

static bool max_over_ranks(rank_t *rank, double *values, int count) {
    return rank_all_reduce_host(rank, values, (size_t)count, ONEHOP_FLOAT64, ONEHOP_MAX);
}

/* Runs `warmup` operations, or as many as take long enough; *each_us is about what one takes, the same on all ranks. */
static bool warm_up(rank_t *rank, const bench_call_t *call, int warmup, double *each_us) {
    int operations = warmup > 0 ? warmup : 1;
    for (;;) {
        double spent;
        if (!run_batch(rank, call, operations, &spent) || !max_over_ranks(rank, &spent, 1)) return false;
        *each_us = fmax(spent / operations, 1e-3);
        if (warmup >= 0 || spent >= warmup_us || operations >= WARMUP_MAX) return true;
        operations *= 2;
    }
}

static int clamp(double value, int low, int high) { return value < low ? low : value > high ? high : (int)value; }

static int ascending(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The value that a share of `quantile` of the samples does not exceed. */
static double quantile_of(const double *sorted, int count, double quantile) {
    return sorted[clamp(ceil(quantile * count) - 1, 0, count - 1)];
}

static bool median_of_batches(rank_t *rank, const bench_call_t *call, int batch, int batches, double *samples,
                              double *out) {
    for (int i = 0; i < batches; i++) {
        if (!run_batch(rank, call, batch, &samples[i])) return false;
        samples[i] /= batch;
    }
    if (!max_over_ranks(rank, samples, batches)) return false;
    qsort(samples, (size_t)batches, sizeof *samples, ascending);
    *out = quantile_of(samples, batches, 0.5);
    return true;
}

static bool p99_of_singles(rank_t *rank, const bench_call_t *call, int singles, double *samples, double *out) {
    double spent;
    if (!run_batch(rank, call, 1, &spent)) return false;
    double last = now_us();
    for (int i = 0; i < singles; i++) {
        if (!run_once(rank, call)) return false;
        double now = now_us();
        samples[i] = now - last;
        last = now;
    }
    if (!max_over_ranks(rank, samples, singles)) return false;
    qsort(samples, (size_t)singles, sizeof *samples, ascending);
    *out = quantile_of(samples, singles, 0.99);
    return true;
}

bool bench_measure(rank_t *rank, const bench_call_t *call, int iters, int warmup, bench_time_t *time) {
    double each;
    if (!warm_up(rank, call, warmup, &each)) return false;
    int batch = clamp(batch_us / each, 1, iters > 0 ? iters : SAMPLES_MAX);
    int batches = iters > 0 ? iters / batch : clamp(series_us / each / batch, SAMPLES_MIN, SAMPLES_MAX);
    int singles = iters > 0 ? iters : clamp(series_us / each, SAMPLES_MIN, SAMPLES_MAX);
    double *samples = malloc(sizeof *samples * (size_t)(batches > singles ? batches : singles));
    if (samples == NULL) return rank_fail(rank, "no memory for the samples");
    bool good = median_of_batches(rank, call, batch, batches, samples, &time->median_us) &&
                p99_of_singles(rank, call, singles, samples, &time->p99_us);
    free(samples);
    return good;
}
