/* SPDX-License-Identifier: Apache-2.0 */
/* `onehop info`: what a communicator is made of, and what it would choose for which message. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "commit.h"
#include "device.h"
#include "info_timing.h"
#include "machine.h"
#include "parse.h"
#include "ranks.h"
#include "say.h"

enum { SIZES = 24 }; /* 8 bytes, 16, ... 64 MiB */
static const size_t first_size = 8;

typedef struct info_options {
    ranks_t ranks;
    onehop_dtype_t dtype;
    onehop_op_t op;
    bool json, timing;
} info_options_t;

/* All that is told, as rank 0 knows it. */
typedef struct facts {
    const info_options_t *options;
    machine_t machine;
    const char *driver; /* the GPU's; NULL on the host */
    onehop_comm_info_t comm;
    onehop_peer_info_t peers[ONEHOP_MAX_RANKS];
    onehop_choice_t choices[2][SIZES]; /* with ordinary buffers, with registered ones */
} facts_t;

static size_t size_of(int index) { return first_size << index; }

static bool gather(rank_t *rank, const info_options_t *options, facts_t *facts) {
    memset(facts, 0, sizeof *facts);
    facts->options = options;
    machine_describe(&facts->machine);
    if (rank->gpu != NULL) facts->driver = gpu_driver(rank->gpu);
    facts->comm.size = sizeof facts->comm;
    if (!rank_try(rank, onehop_comm_get_info(rank->comm, &facts->comm))) return false;
    for (int r = 0; r < rank->nranks; r++) {
        facts->peers[r].size = sizeof facts->peers[r];
        if (!rank_try(rank, onehop_comm_get_peer(rank->comm, r, &facts->peers[r]))) return false;
    }
    for (int i = 0; i < 2 * SIZES; i++) {
        onehop_choice_t *choice = &facts->choices[i / SIZES][i % SIZES];
        size_t count = size_of(i % SIZES) / onehop_dtype_size(options->dtype);
        choice->size = sizeof *choice;
        if (!rank_try(rank, onehop_comm_explain(rank->comm, count, options->dtype, options->op, i / SIZES, choice)))
            return false;
    }
    return true;
}

/* ---- as text ---- */

static const char *or_dash(const char *text) { return text != NULL ? text : "-"; }

static void print_choices(const facts_t *facts, int registered) {
    bool gpu = facts->driver != NULL;
    printf("\n%s %s, %s buffers\n", onehop_dtype_string(facts->options->dtype), onehop_op_string(facts->options->op),
           registered ? "registered" : "ordinary");
    printf("%10s  %-13s %10s  %s%s\n", "bytes", "algorithm", "chunk", gpu ? "grid        " : "", "why");
    for (int i = 0; i < SIZES; i++) {
        const onehop_choice_t *choice = &facts->choices[registered][i];
        char grid[32] = "";
        if (gpu) snprintf(grid, sizeof grid, "%d x %d", choice->blocks, choice->threads);
        printf("%10zu  %-13s %10zu  %-*s%s\n", size_of(i), choice->algorithm, choice->chunk_bytes, gpu ? 12 : 0, grid,
               choice->reason);
    }
}

static void print_device(const facts_t *facts) {
    const onehop_comm_info_t *comm = &facts->comm;
    if (facts->driver == NULL) {
        printf("device     %s, %d processors, %s\n", onehop_device_string(comm->device), comm->cpus,
               or_dash(comm->simd));
        printf("placement  %s: a signal takes %.0f ns\n", or_dash(comm->placement), comm->signal_ns);
        return;
    }
    printf("device     %s, %s (GPU %d of rank 0), %s\n", onehop_device_string(comm->device), or_dash(comm->device_name),
           comm->device_index, facts->driver);
    printf("memory     shared by %s\n", or_dash(comm->memory));
    printf("kernels    %.1f ms to find or compile so far\n", comm->compile_ms);
}

static void print_text(const facts_t *facts) {
    const onehop_comm_info_t *comm = &facts->comm;
    printf("onehop     %s (commit %s)\n", onehop_version(), ONEHOP_COMMIT);
    printf("machine    %s: %s, %s\n", facts->machine.host, facts->machine.cpu, facts->machine.kernel);
    print_device(facts);
    printf("workspace  %zu bytes a rank: %zu control, %zu staging\n", comm->workspace_bytes, comm->control_bytes,
           comm->staging_bytes);
    printf("tuning     %s\n", or_dash(comm->tuning));
    printf("\n%4s %10s %11s %10s\n", "rank", "process", "processors", "NUMA node");
    for (int r = 0; r < comm->nranks; r++) {
        const onehop_peer_info_t *peer = &facts->peers[r];
        char node[16] = "-";
        if (peer->numa_node >= 0) snprintf(node, sizeof node, "%d", peer->numa_node);
        printf("%4d %10d %11d %10s\n", r, peer->pid, peer->cpus, node);
    }
    printf("\nalgorithms\n");
    for (int i = 0; onehop_algorithm_name(comm->device, i) != NULL; i++) {
        printf("  %-13s  %s\n", onehop_algorithm_name(comm->device, i), onehop_algorithm_description(comm->device, i));
    }
    print_choices(facts, 0);
    if (facts->driver == NULL) print_choices(facts, 1);
}

/* ---- as JSON ---- */

static json_t *peers_to_json(const facts_t *facts) {
    json_t *list = json_array();
    for (int r = 0; r < facts->comm.nranks; r++) {
        const onehop_peer_info_t *peer = &facts->peers[r];
        json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:i}", "rank", r, "pid", peer->pid, "cpus", peer->cpus,
                                              "numa_node", peer->numa_node));
    }
    return list;
}

static json_t *algorithms_to_json(onehop_device_t device) {
    json_t *list = json_array();
    for (int i = 0; onehop_algorithm_name(device, i) != NULL; i++) {
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", onehop_algorithm_name(device, i), "description",
                                              onehop_algorithm_description(device, i)));
    }
    return list;
}

static json_t *choices_to_json(const facts_t *facts) {
    json_t *list = json_array();
    for (int i = 0; i < 2 * SIZES; i++) {
        const onehop_choice_t *choice = &facts->choices[i / SIZES][i % SIZES];
        json_array_append_new(list,
                              json_pack("{s:I, s:b, s:s, s:I, s:i, s:i, s:s}", "bytes", (json_int_t)size_of(i % SIZES),
                                        "registered", i / SIZES, "algorithm", choice->algorithm, "chunk_bytes",
                                        (json_int_t)choice->chunk_bytes, "blocks", choice->blocks, "threads",
                                        choice->threads, "reason", choice->reason));
    }
    return list;
}

/* NULL if memory runs out. */
static json_t *to_json(const facts_t *facts) {
    const onehop_comm_info_t *comm = &facts->comm;
    json_t *about = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "schema", "onehop-info-1", "version",
                              onehop_version(), "commit", ONEHOP_COMMIT, "date", facts->machine.date, "host",
                              facts->machine.host, "cpu", facts->machine.cpu, "driver", facts->machine.kernel, "nranks",
                              comm->nranks, "cpus", comm->cpus);
    json_t *device =
        json_pack("{s:s, s:i, s:s?, s:s?, s:f}", "device", onehop_device_string(comm->device), "device_index",
                  comm->device_index, "simd", comm->simd, "placement", comm->placement, "signal_ns", comm->signal_ns);
    json_t *workspace = json_pack("{s:I, s:I, s:I}", "bytes", (json_int_t)comm->workspace_bytes, "control",
                                  (json_int_t)comm->control_bytes, "staging", (json_int_t)comm->staging_bytes);
    json_t *lists = json_pack("{s:o, s:s?, s:o, s:o, s:s, s:s, s:o}", "workspace", workspace, "tuning", comm->tuning,
                              "ranks", peers_to_json(facts), "algorithms", algorithms_to_json(comm->device), "dtype",
                              onehop_dtype_string(facts->options->dtype), "op", onehop_op_string(facts->options->op),
                              "choices", choices_to_json(facts));
    json_t *gpu = facts->driver == NULL
                      ? json_object()
                      : json_pack("{s:s?, s:s, s:s?, s:f}", "gpu", comm->device_name, "gpu_driver", facts->driver,
                                  "memory", comm->memory, "compile_ms", comm->compile_ms);
    bool whole = about != NULL && json_object_update(about, device) == 0 && json_object_update(about, gpu) == 0 &&
                 json_object_update(about, lists) == 0;
    json_decref(gpu);
    json_decref(device);
    json_decref(lists);
    if (whole) return about;
    json_decref(about);
    return NULL;
}

static bool print_json(rank_t *rank, const facts_t *facts) {
    json_t *object = to_json(facts);
    if (object == NULL) return rank_fail(rank, "no memory for the answer");
    json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(object);
    return true;
}

/* ---- the command ---- */

static bool info_rank(rank_t *rank, void *ctx) {
    const info_options_t *options = ctx;
    if (rank->rank == 0) {
        facts_t facts;
        if (!gather(rank, options, &facts)) return false;
        if (!options->json) print_text(&facts);
        if (options->json && !print_json(rank, &facts)) return false;
        if (!rank_printed(rank)) return false;
    }
    /* Nobody leaves before rank 0 has asked all that it wants to know. */
    return rank_all_reduce_host(rank, NULL, 0, options->dtype, options->op);
}

int command_info(int argc, char **argv) {
    info_options_t o = {.ranks.device = ONEHOP_DEVICE_AUTO};
    const option_row_t rows[] = {
        {"nranks", 'n', "N", parse_int, &o.ranks.nranks, 1, ONEHOP_MAX_RANKS,
         "ranks to start (default: as many as processors, 2 to 8)"},
        {"dtype", 'd', "TYPE", parse_dtype, &o.dtype, 0, 0, "type of the elements (default float32)"},
        {"op", 'o', "OP", parse_op, &o.op, 0, 0, "sum, prod, min, max or avg (default sum)"},
        {"algorithm", 'a', "NAME", parse_algorithm, &o.ranks.algorithm, 0, 0, "force an algorithm"},
        {"device", 0, "DEVICE", parse_device, &o.ranks.device, 0, 0, "auto, host or cuda (default auto)"},
        {"threads", 't', NULL, NULL, &o.ranks.threads, 0, 0, "ranks are threads of one process"},
        {"timing", 0, NULL, NULL, &o.timing, 0, 0,
         "time the way to the first all-reduce instead, kernels to be compiled"},
        {"json", 'j', NULL, NULL, &o.json, 0, 0, "print JSON"},
    };
    const command_line_t line = {
        .usage = "[OPTIONS]",
        .about = "Starts ranks and shows where they run, what memory they share, the algorithms, and for each size\n"
                 "of a message which of them would be chosen and why.\n"
                 "\n"
                 "Under `onehop launch` or torchrun, and without --nranks, this process is one of their ranks.",
        .options = rows,
        .noptions = sizeof rows / sizeof rows[0],
    };
    int operand, status = parse_command_line(&line, argc, argv, &operand);
    if (status != PARSE_GO_ON) return status;
    ranks_resolve(&o.ranks);
    if (o.timing && (o.json || o.ranks.nranks == 0)) {
        complain(o.json ? "--timing has no --json" : "--timing starts ranks of its own: expected --nranks");
        return EXIT_USAGE;
    }
    return o.timing ? info_timing(&o.ranks) : ranks_run(&o.ranks, info_rank, &o);
}
