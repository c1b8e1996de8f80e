/* SPDX-License-Identifier: Apache-2.0 */
/* What `onehop bench` found: a table as nccl-tests prints it, and a JSON file of the schema "onehop-bench-1". */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

#include "bench.h"
#include "commit.h"
#include "machine.h"
#include "output.h"

struct bench_report {
    rank_t *rank;
    const bench_options_t *options;
    machine_t machine;
    onehop_comm_info_t info;
    json_t *results;
    uint64_t wrong;
};

static void print_head(const bench_report_t *report) {
    const onehop_comm_info_t *info = &report->info;
    printf("# onehop %s on %s: %s, %d processors; device %s\n", onehop_version(), report->machine.host,
           report->machine.cpu, info->cpus, onehop_device_string(info->device));
    printf("# %d ranks as %s, %s memory; placement %s, signal %.0f ns; seed %" PRIu64 "\n", info->nranks,
           report->options->ranks.threads ? "threads" : "processes",
           report->options->registered ? "registered" : "ordinary",
           info->placement != NULL ? info->placement : "unknown", info->signal_ns, report->options->seed);
    printf("#\n#%41s %38s %36s\n", "", "out of place", "in place");
    printf("#%11s %12s %9s %6s  %10s %8s %8s %7s %10s %8s %8s %7s\n", "bytes", "count", "type", "op", "time", "algbw",
           "busbw", "wrong", "time", "algbw", "busbw", "wrong");
    printf("#%11s %12s %9s %6s  %10s %8s %8s %7s %10s %8s %8s\n", "", "(elements)", "", "", "(us)", "(GB/s)", "(GB/s)",
           "", "(us)", "(GB/s)", "(GB/s)");
}

bench_report_t *bench_report_open(rank_t *rank, const bench_options_t *options) {
    output_t output;
    if (options->json != NULL && !output_possible(&output, options->json)) {
        rank_fail(rank, "%s", output.error);
        return NULL;
    }
    bench_report_t *report = calloc(1, sizeof *report);
    if (report == NULL || (report->results = json_array()) == NULL) {
        rank_fail(rank, "no memory for the report");
        free(report);
        return NULL;
    }
    report->rank = rank;
    report->options = options;
    report->info.size = sizeof report->info;
    machine_describe(&report->machine);
    if (!rank_try(rank, onehop_comm_get_info(rank->comm, &report->info))) {
        json_decref(report->results);
        free(report);
        return NULL;
    }
    print_head(report);
    return report;
}

static double algorithm_bandwidth(const bench_row_t *row) { return (double)row->bytes / row->time.median_us * 1e-3; }

static double bus_bandwidth(const bench_report_t *report, const bench_row_t *row) {
    int n = report->info.nranks;
    return algorithm_bandwidth(row) * 2 * (n - 1) / n;
}

static json_t *row_to_json(const bench_report_t *report, const bench_row_t *row) {
    const bench_options_t *options = report->options;
    return json_pack("{s:I, s:I, s:s, s:s, s:b, s:b, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:{}}", /**/
                     "bytes", (json_int_t)row->bytes, "count", (json_int_t)row->count,               /**/
                     "dtype", onehop_dtype_string(options->dtype), "op", onehop_op_string(options->op), "in_place",
                     row->in_place, "registered", options->registered, "algorithm", row->choice.algorithm, "blocks",
                     row->choice.blocks, "threads", row->choice.threads, "time_us", row->time.median_us, "time_p99_us",
                     row->time.p99_us, "algbw_gbs", algorithm_bandwidth(row), "busbw_gbs", bus_bandwidth(report, row),
                     "wrong", (json_int_t)row->wrong, "peers");
}

bool bench_report_add(bench_report_t *report, const bench_row_t *row) {
    if (!row->in_place) {
        printf("%12zu %12zu %9s %6s ", row->bytes, row->count, onehop_dtype_string(report->options->dtype),
               onehop_op_string(report->options->op));
    }
    printf(" %10.2f %8.3f %8.3f %7" PRIu64, row->time.median_us, algorithm_bandwidth(row), bus_bandwidth(report, row),
           row->wrong);
    if (row->in_place) printf("\n");
    report->wrong += row->wrong;
    if (json_array_append_new(report->results, row_to_json(report, row)) != 0) {
        return rank_fail(report->rank, "no memory for the report");
    }
    return rank_printed(report->rank);
}

/* Beyond the schema: host, ranks_as, placement, signal_ns, seed. */
static json_t *to_json(const bench_report_t *report) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:s, s:s?, s:f, s:I, s:O}", "schema",
                     "onehop-bench-1", "version", onehop_version(), "commit", ONEHOP_COMMIT, "date",
                     report->machine.date, "device", report->machine.cpu, "driver", report->machine.kernel, "nranks",
                     report->info.nranks, "mode", "eager", "host", report->machine.host, "ranks_as",
                     report->options->ranks.threads ? "threads" : "processes", "placement", report->info.placement,
                     "signal_ns", report->info.signal_ns, "seed", (json_int_t)report->options->seed, "results",
                     report->results);
}

static bool write_json(const bench_report_t *report) {
    output_t output;
    json_t *object = to_json(report);
    if (object == NULL) return rank_fail(report->rank, "no memory for %s", report->options->json);
    bool good = output_open(&output, report->options->json);
    if (good) {
        json_dumpf(object, output.file, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
        fputc('\n', output.file);
        good = output_commit(&output);
    }
    json_decref(object);
    return good || rank_fail(report->rank, "%s", output.error);
}

static bool finish(const bench_report_t *report) {
    printf("# wrong elements: %" PRIu64 "\n", report->wrong);
    if (!rank_printed(report->rank)) return false;
    if (report->options->json != NULL && !write_json(report)) return false;
    return report->wrong == 0 || rank_fail(report->rank, "%" PRIu64 " elements were wrong", report->wrong);
}

bool bench_report_close(bench_report_t *report, bool complete) {
    bool good = complete && finish(report);
    json_decref(report->results);
    free(report);
    return good;
}
