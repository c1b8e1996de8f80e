/* SPDX-License-Identifier: Apache-2.0 */
/* `onehop bench` on GPUs: the rank's series of sizes. NCCL is measured in the same way, in turn with us. */
#include "bench_gpu.h"

#include "data.h"
#include "device.h"
#include "say.h"

/* One rank's part of the series. */
typedef struct bench {
    gpu_bench_t gpu;
    bench_report_t *report; /* NULL but on rank 0 */
    uint64_t seed;
} bench_t;

/* NCCL is warmed up, and verified, by calls: it connects in the first of them. */
static bool measure_peer(bench_t *bench, const gpu_subject_t *s, double *us) {
    uint64_t wrong = 0;
    bench_time_t time;
    if (!gpu_bench_verify(&bench->gpu, s, bench->seed, false, &wrong) || !gpu_bench_time(&bench->gpu, s, &time))
        return false;
    if (wrong > 0) return rank_fail(bench->gpu.rank, "NCCL got %llu elements wrong", (unsigned long long)wrong);
    *us = time.median_us;
    return true;
}

static bool measure_peers(bench_t *bench, gpu_subject_t s, bench_row_t *row) {
    if (bench->gpu.nccl == NULL) return true;
    s.nccl = true;
    if (!measure_peer(bench, &s, &row->peers[BENCH_NCCL])) return false;
    s.buffers = &bench->gpu.window;
    return nccl_window(bench->gpu.nccl) == NULL || measure_peer(bench, &s, &row->peers[BENCH_NCCL_WINDOW]);
}

/* What was not called yet is called before it is captured. */
static bool bench_one(bench_t *bench, size_t bytes, bool in_place) {
    const bench_options_t *o = bench->gpu.options;
    bench_row_t row = {.count = bytes / onehop_dtype_size(o->dtype), .in_place = in_place};
    row.bytes = row.count * onehop_dtype_size(o->dtype);
    row.choice.size = sizeof row.choice;
    gpu_subject_t s = {.buffers = &bench->gpu.ours, .count = row.count, .in_place = in_place};
    if (bench->report != NULL) progress_show("%zu bytes %s", row.bytes, in_place ? "in place" : "out of place");
    if (!gpu_bench_verify(&bench->gpu, &s, data_mix(bench->seed ^ bytes), false, &row.wrong) ||
        !gpu_bench_time(&bench->gpu, &s, &row.time) || !gpu_bench_time_host(&bench->gpu, &s, &row.time.host_us) ||
        !gpu_bench_verify(&bench->gpu, &s, data_mix(~bench->seed ^ bytes), o->mode == BENCH_GRAPH, &row.wrong) ||
        !measure_peers(bench, s, &row))
        return false;
    if (bench->report == NULL) return true;
    progress_clear();
    return rank_try(bench->gpu.rank, onehop_comm_explain(bench->gpu.rank->comm, row.count, o->dtype, o->op,
                                                         o->registered, &row.choice)) &&
           bench_report_add(bench->report, &row);
}

static bool open_peer(bench_t *bench) {
    if (bench->gpu.options->peer == NULL) return true;
    bench->gpu.nccl = nccl_open(bench->gpu.rank, bench->gpu.options->nccl, gpu_bench_bytes(&bench->gpu));
    if (bench->gpu.nccl == NULL) return false;
    if (nccl_window(bench->gpu.nccl) != NULL)
        gpu_bench_lay_out(&bench->gpu, nccl_window(bench->gpu.nccl), &bench->gpu.window);
    if (bench->report != NULL) bench_report_peer(bench->report, nccl_version(bench->gpu.nccl));
    return true;
}

static bool bench_series(bench_t *bench) {
    for (int i = 0; i < bench->gpu.options->sizes.count; i++) {
        size_t bytes = bench->gpu.options->sizes.bytes[i];
        if (!bench_one(bench, bytes, false) || !bench_one(bench, bytes, true)) return false;
    }
    return true;
}

bool bench_on_gpu(rank_t *rank, const bench_options_t *options, bench_report_t *report, uint64_t seed) {
    bench_t bench = {.report = report, .seed = seed};
    bool good = gpu_bench_open(&bench.gpu, rank, options) && open_peer(&bench) && bench_series(&bench);
    progress_clear();
    /* What failed while others are still at it may never end. */
    if (good) nccl_close(bench.gpu.nccl);
    if (good && options->registered) good = rank_try(rank, onehop_deregister(rank->comm, bench.gpu.memory));
    gpu_bench_close(&bench.gpu);
    return good;
}
