/* SPDX-License-Identifier: Apache-2.0 */
/* What `onehop bench` found: a table as nccl-tests prints it, and a JSON file of the schema "onehop-bench-1". */
#include <inttypes.h>
#include <stdlib.h>

#include "bench.h"
#include "commit.h"
#include "gpu.h"
#include "json.h"
#include "machine.h"
#include "output.h"

struct bench_report {
    rank_t *rank;
    const bench_options_t *options;
    machine_t machine;
    onehop_comm_info_t info;
    json_object *results;
    uint64_t wrong;
    char peer_version[32]; /* "": no peer */
};

static const char *const peer_names[BENCH_PEERS] = {"nccl", "nccl_window"};

static bool on_gpu(const bench_report_t *report) { return report->rank->gpu != NULL; }
static const char *mode_of(const bench_report_t *r) { return r->options->mode == BENCH_GRAPH ? "graph" : "eager"; }

static void print_device(const bench_report_t *report) {
    const onehop_comm_info_t *info = &report->info;
    const bench_options_t *o = report->options;
    const char *ranks_as = o->ranks.threads ? "threads" : "processes";
    if (!on_gpu(report)) {
        printf("# onehop %s on %s: %s, %d processors; device %s\n", onehop_version(), report->machine.host,
               report->machine.cpu, info->cpus, onehop_device_string(info->device));
        printf("# %d ranks as %s, %s memory; placement %s, signal %.0f ns; seed %" PRIu64 "\n", info->nranks, ranks_as,
               o->registered ? "registered" : "ordinary", info->placement != NULL ? info->placement : "unknown",
               info->signal_ns, o->seed);
        return;
    }
    printf("# onehop %s on %s: %s, %s; device %s\n", onehop_version(), report->machine.host,
           gpu_name(report->rank->gpu), gpu_driver(report->rank->gpu), onehop_device_string(info->device));
    printf("# %d ranks as %s, mode %s, %d rounds, neighbour %zu bytes; NCCL %s; seed %" PRIu64 "\n", info->nranks,
           ranks_as, mode_of(report), o->rounds, o->neighbour,
           report->peer_version[0] != '\0' ? report->peer_version : "not measured", o->seed);
}

/* The columns of one place; on a GPU there are more. */
static void print_columns(const bench_report_t *report, const char *const *names) {
    printf(" %10s %8s %8s %7s", names[0], names[1], names[2], names[3]);
    if (on_gpu(report)) printf(" %6s", names[4]);
    for (int i = 0; i < BENCH_PEERS && report->peer_version[0] != '\0'; i++) printf(" %11s", names[5 + i]);
}

static void print_head(const bench_report_t *report) {
    static const char *const names[] = {"time", "algbw", "busbw", "wrong", "host", "nccl", "nccl_window"};
    static const char *const units[] = {"(us)", "(GB/s)", "(GB/s)", "", "(us)", "(us)", "(us)"};
    print_device(report);
    if (on_gpu(report)) {
        printf("#\n# the columns of a size are there twice: out of place, in place\n");
    } else {
        printf("#\n#%41s %38s %36s\n", "", "out of place", "in place");
    }
    printf("#%11s %12s %9s %6s ", "bytes", "count", "type", "op");
    print_columns(report, names);
    print_columns(report, names);
    printf("\n#%11s %12s %9s %6s ", "", "(elements)", "", "");
    print_columns(report, units);
    print_columns(report, units);
    printf("\n");
}

void bench_report_peer(bench_report_t *report, const char *version) {
    snprintf(report->peer_version, sizeof report->peer_version, "%s", version);
    print_head(report);
}

bench_report_t *bench_report_open(rank_t *rank, const bench_options_t *options) {
    output_t output;
    if (options->json != NULL && !output_possible(&output, options->json)) {
        rank_fail(rank, "%s", output.error);
        return NULL;
    }
    bench_report_t *report = calloc(1, sizeof *report);
    if (report == NULL || (report->results = json_object_new_array()) == NULL) {
        rank_fail(rank, "no memory for the report");
        free(report);
        return NULL;
    }
    report->rank = rank;
    report->options = options;
    report->info.size = sizeof report->info;
    machine_describe(&report->machine);
    if (!rank_try(rank, onehop_comm_get_info(rank->comm, &report->info))) {
        json_object_put(report->results);
        free(report);
        return NULL;
    }
    if (options->peer == NULL) print_head(report);
    return report;
}

static double algorithm_bandwidth(const bench_row_t *row) { return (double)row->bytes / row->time.median_us * 1e-3; }

static double bus_bandwidth(const bench_report_t *report, const bench_row_t *row) {
    int n = report->info.nranks;
    return algorithm_bandwidth(row) * 2 * (n - 1) / n;
}

static json_object *peers_to_json(const bench_row_t *row) {
    json_object *peers = json_object_new_object();
    for (int i = 0; i < BENCH_PEERS; i++) {
        if (row->peers[i] > 0) peers = json_add(peers, (json_member_t[]){json_real(peer_names[i], row->peers[i]), {0}});
    }
    return peers;
}

static json_object *row_to_json(const bench_report_t *report, const bench_row_t *row) {
    const bench_options_t *options = report->options;
    const json_member_t members[] = {json_int("bytes", (int64_t)row->bytes),
                                     json_int("count", (int64_t)row->count),
                                     json_text("dtype", onehop_dtype_string(options->dtype)),
                                     json_text("op", onehop_op_string(options->op)),
                                     json_flag("in_place", row->in_place),
                                     json_flag("registered", options->registered),
                                     json_text("algorithm", row->choice.algorithm),
                                     json_int("blocks", row->choice.blocks),
                                     json_int("threads", row->choice.threads),
                                     json_real("time_us", row->time.median_us),
                                     json_real("time_p99_us", row->time.p99_us),
                                     json_real("algbw_gbs", algorithm_bandwidth(row)),
                                     json_real("busbw_gbs", bus_bandwidth(report, row)),
                                     json_int("wrong", (int64_t)row->wrong),
                                     json_value("peers", peers_to_json(row)),
                                     {0}};
    json_object *object = json_add(json_object_new_object(), members);
    if (!on_gpu(report)) return object;
    return json_add(object, (json_member_t[]){json_real("host_us", row->time.host_us),
                                              json_real("neighbour_us", row->time.neighbour_us),
                                              {0}});
}

static void print_place(const bench_report_t *report, const bench_row_t *row) {
    printf(" %10.2f %8.3f %8.3f %7" PRIu64, row->time.median_us, algorithm_bandwidth(row), bus_bandwidth(report, row),
           row->wrong);
    if (on_gpu(report)) printf(" %6.2f", row->time.host_us);
    for (int i = 0; i < BENCH_PEERS && report->peer_version[0] != '\0'; i++) {
        if (row->peers[i] > 0) printf(" %11.2f", row->peers[i]);
        if (row->peers[i] <= 0) printf(" %11s", "-");
    }
}

bool bench_report_add(bench_report_t *report, const bench_row_t *row) {
    if (!row->in_place) {
        printf("%12zu %12zu %9s %6s ", row->bytes, row->count, onehop_dtype_string(report->options->dtype),
               onehop_op_string(report->options->op));
    }
    print_place(report, row);
    if (row->in_place) printf("\n");
    report->wrong += row->wrong;
    report->results = json_append(report->results, row_to_json(report, row));
    if (report->results == NULL) return rank_fail(report->rank, "no memory for the report");
    return rank_printed(report->rank);
}

/* Beyond the schema: host, ranks_as, placement, signal_ns, seed; on a GPU rounds, neighbour_bytes, nccl_version, and
 * host_us and neighbour_us in each result. */
static json_object *to_json(const bench_report_t *report) {
    const bench_options_t *o = report->options;
    const char *device = on_gpu(report) ? gpu_name(report->rank->gpu) : report->machine.cpu;
    const char *driver = on_gpu(report) ? gpu_driver(report->rank->gpu) : report->machine.kernel;
    const json_member_t about[] = {json_text("schema", "onehop-bench-1"),
                                   json_text("version", onehop_version()),
                                   json_text("commit", ONEHOP_COMMIT),
                                   json_text("date", report->machine.date),
                                   json_text("device", device),
                                   json_text("driver", driver),
                                   json_int("nranks", report->info.nranks),
                                   json_text("mode", mode_of(report)),
                                   json_text("host", report->machine.host),
                                   json_text("ranks_as", o->ranks.threads ? "threads" : "processes"),
                                   json_text("placement", report->info.placement),
                                   json_real("signal_ns", report->info.signal_ns),
                                   json_int("seed", (int64_t)o->seed),
                                   {0}};
    json_object *object = json_add(json_object_new_object(), about);
    if (on_gpu(report)) {
        const char *peer = report->peer_version[0] != '\0' ? report->peer_version : NULL;
        const json_member_t more[] = {json_int("rounds", o->rounds),
                                      json_int("neighbour_bytes", (int64_t)o->neighbour),
                                      json_text("nccl_version", peer),
                                      {0}};
        object = json_add(object, more);
    }
    const json_member_t results[] = {json_value("results", json_object_get(report->results)), {0}};
    return json_add(object, results);
}

static bool write_json(const bench_report_t *report) {
    output_t output;
    return json_save(to_json(report), report->options->json, &output) || rank_fail(report->rank, "%s", output.error);
}

static bool finish(const bench_report_t *report) {
    printf("# wrong elements: %" PRIu64 "\n", report->wrong);
    if (!rank_printed(report->rank)) return false;
    if (report->options->json != NULL && !write_json(report)) return false;
    return report->wrong == 0 || rank_fail(report->rank, "%" PRIu64 " elements were wrong", report->wrong);
}

bool bench_report_close(bench_report_t *report, bool complete) {
    bool good = complete && finish(report);
    json_object_put(report->results);
    free(report);
    return good;
}
