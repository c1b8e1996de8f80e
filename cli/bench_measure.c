/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One measurement on the host. The median is that of batches so long that reading the clock is nothing beside them; the
 * 99th percentile is that of single operations, one after the other. A batch, or an operation, takes as long as on the
 * slowest rank.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "clock.h"
#include "data.h"
#include "device.h"
#include "samples.h"

enum { SAMPLES_MAX = 10000, SAMPLES_MIN = 5, WARMUP_MAX = 1 << 20 };
static const double batch_us = 100, series_us = 50e3, warmup_part = 0.2;

static double now_us(void) { return 1e-3 * (double)now_ns(); }

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

/* Runs `warmup` operations, or if that is -1 as many as take so long; *each_us is about what one takes, the same on all
 * ranks. */
static bool warm_up(rank_t *rank, const bench_call_t *call, int warmup, double us, double *each_us) {
    int operations = warmup > 0 ? warmup : 1;
    for (;;) {
        double spent;
        if (!run_batch(rank, call, operations, &spent) || !max_over_ranks(rank, &spent, 1)) return false;
        *each_us = fmax(spent / operations, 1e-3);
        if (warmup >= 0 || spent >= us || operations >= WARMUP_MAX) return true;
        operations *= 2;
    }
}

static int clamp(double value, int low, int high) { return value < low ? low : value > high ? high : (int)value; }

/* How much is measured, by what one operation takes. */
typedef struct series {
    int iters, warmup; /* as asked for, or -1: */
    double us;         /* as many operations as take so long, after a part of that */
    int batch, batches, singles;
    double *samples;
} series_t;

static bool series_open(rank_t *rank, const bench_call_t *call, series_t *s) {
    double each;
    if (!warm_up(rank, call, s->warmup, warmup_part * s->us, &each)) return false;
    s->batch = clamp(batch_us / each, 1, s->iters > 0 ? s->iters : SAMPLES_MAX);
    s->batches = s->iters > 0 ? s->iters / s->batch : clamp(s->us / each / s->batch, SAMPLES_MIN, SAMPLES_MAX);
    s->singles = s->iters > 0 ? s->iters : clamp(s->us / each, SAMPLES_MIN, SAMPLES_MAX);
    s->samples = malloc(sizeof *s->samples * (size_t)(s->batches > s->singles ? s->batches : s->singles));
    return s->samples != NULL || rank_fail(rank, "no memory for the samples");
}

static bool median_of_batches(rank_t *rank, const bench_call_t *call, const series_t *s, double *out) {
    for (int i = 0; i < s->batches; i++) {
        if (!run_batch(rank, call, s->batch, &s->samples[i])) return false;
        s->samples[i] /= s->batch;
    }
    if (!max_over_ranks(rank, s->samples, s->batches)) return false;
    samples_sort(s->samples, s->batches);
    *out = samples_quantile(s->samples, s->batches, 0.5);
    return true;
}

static bool p99_of_singles(rank_t *rank, const bench_call_t *call, const series_t *s, double *out) {
    double spent;
    if (!run_batch(rank, call, 1, &spent)) return false;
    double last = now_us();
    for (int i = 0; i < s->singles; i++) {
        if (!run_once(rank, call)) return false;
        double now = now_us();
        s->samples[i] = now - last;
        last = now;
    }
    if (!max_over_ranks(rank, s->samples, s->singles)) return false;
    samples_sort(s->samples, s->singles);
    *out = samples_quantile(s->samples, s->singles, 0.99);
    return true;
}

bool bench_median(rank_t *rank, const bench_call_t *call, double us, double *median_us) {
    series_t series = {.iters = -1, .warmup = -1, .us = us};
    if (!series_open(rank, call, &series)) return false;
    bool good = median_of_batches(rank, call, &series, median_us);
    free(series.samples);
    return good;
}

bool bench_measure(rank_t *rank, const bench_call_t *call, int iters, int warmup, bench_time_t *time) {
    series_t series = {.iters = iters, .warmup = warmup, .us = series_us};
    if (!series_open(rank, call, &series)) return false;
    bool good =
        median_of_batches(rank, call, &series, &time->median_us) && p99_of_singles(rank, call, &series, &time->p99_us);
    free(series.samples);
    return good;
}

bool bench_verify(rank_t *rank, const bench_call_t *call, uint64_t seed, uint64_t *wrong) {
    data_t data = {call->dtype, call->op, rank->nranks, seed};
    memset(call->recv, 0xA5, call->count * onehop_dtype_size(call->dtype));
    data_fill(&data, rank->rank, call->send, call->count);
    if (!run_once(rank, call)) return false;
    uint64_t mine = data_check(&data, call->recv, call->count, NULL);
    if (!rank_all_reduce_host(rank, &mine, 1, ONEHOP_UINT64, ONEHOP_SUM)) return false;
    *wrong += mine;
    return true;
}
