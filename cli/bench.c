/* SPDX-License-Identifier: Apache-2.0 */
/* `onehop bench`: options, and what every rank does. */
#include "bench.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "data.h"
#include "device.h"
#include "memory.h"
#include "parse.h"
#include "say.h"

/* One rank's buffers and its place in the series. */
typedef struct bench_run {
    rank_t *rank;
    const bench_options_t *options;
    bench_report_t *report; /* NULL but on rank 0 */
    uint64_t seed;
    void *send, *recv;
} bench_run_t;

/* The result is verified before the measurement and after it. */
static bool bench_one(bench_run_t *run, size_t bytes, bool in_place) {
    const bench_options_t *options = run->options;
    bench_row_t row = {.count = bytes / onehop_dtype_size(options->dtype), .in_place = in_place};
    row.bytes = row.count * onehop_dtype_size(options->dtype);
    row.choice.size = sizeof row.choice;
    bench_call_t call = {in_place ? run->recv : run->send, run->recv, row.count, options->dtype, options->op};
    if (run->report != NULL) progress_show("%zu bytes %s", row.bytes, in_place ? "in place" : "out of place");
    if (!bench_verify(run->rank, &call, data_mix(run->seed ^ bytes), &row.wrong) ||
        !bench_measure(run->rank, &call, options->iters, options->warmup, &row.time) ||
        !bench_verify(run->rank, &call, data_mix(~run->seed ^ bytes), &row.wrong)) {
        return false;
    }
    if (run->report == NULL) return true;
    progress_clear();
    return rank_try(run->rank, onehop_comm_explain(run->rank->comm, row.count, options->dtype, options->op,
                                                   options->registered, &row.choice)) &&
           bench_report_add(run->report, &row);
}

static bool bench_series(bench_run_t *run) {
    const sizes_t *sizes = &run->options->sizes;
    for (int i = 0; i < sizes->count; i++) {
        if (!bench_one(run, sizes->bytes[i], false) || !bench_one(run, sizes->bytes[i], true)) return false;
    }
    return true;
}

static bool bench_on_host(bench_run_t *run) {
    const bench_options_t *options = run->options;
    rank_t *rank = run->rank;
    run->send = memory_get(rank, options->max_bytes, options->registered);
    if (run->send != NULL) run->recv = memory_get(rank, options->max_bytes, options->registered);
    bool good = run->recv != NULL && bench_series(run);
    progress_clear();
    /* After a failure, what belongs to the communicator ends with it. */
    if (good || !options->registered) {
        good = memory_drop(rank, run->send, options->registered) && good;
        good = memory_drop(rank, run->recv, options->registered) && good;
    }
    return good;
}

/* What the options ask for has to fit the device that the ranks turn out to have. */
static bool fits_device(rank_t *rank, bench_options_t *options) {
    const char *wish = options->mode_name != NULL && options->mode == BENCH_GRAPH ? "--mode graph"
                       : options->neighbour > 0                                   ? "--neighbour"
                       : options->peer != NULL                                    ? "--peer"
                                                                                  : NULL;
    if (rank->gpu == NULL && wish != NULL) return rank_fail(rank, "%s needs GPUs: the device is host", wish);
    if (rank->gpu == NULL) options->mode = BENCH_EAGER;
    return true;
}

static bool bench_rank(rank_t *rank, void *ctx) {
    bench_options_t options = *(const bench_options_t *)ctx;
    bench_run_t run = {.rank = rank, .options = &options, .seed = options.seed};
    if (!fits_device(rank, &options) || !memory_suffices(rank, 2 * options.max_bytes) || !rank_agree(rank, &run.seed))
        return false;
    if (rank->rank == 0 && (run.report = bench_report_open(rank, &options)) == NULL) return false;
    bool good = rank->gpu != NULL ? bench_on_gpu(rank, &options, run.report, run.seed) : bench_on_host(&run);
    if (run.report != NULL) good = bench_report_close(run.report, good) && good;
    return good;
}

/* The sizes from --min to --max, or the ends of those that are given. */
static void list_sizes(bench_options_t *o) {
    sizes_t *sizes = &o->sizes;
    size_t factor = (size_t)o->factor;
    bool given = sizes->count > 0;
    for (size_t bytes = o->min_bytes; !given && sizes->count < SIZES_MAX; bytes *= factor) {
        sizes->bytes[sizes->count++] = bytes;
        if (bytes > o->max_bytes / factor) break;
    }
    if (!given) return;
    o->min_bytes = o->max_bytes = sizes->bytes[0];
    for (int i = 1; i < sizes->count; i++) {
        if (sizes->bytes[i] < o->min_bytes) o->min_bytes = sizes->bytes[i];
        if (sizes->bytes[i] > o->max_bytes) o->max_bytes = sizes->bytes[i];
    }
}

int bench_list_sizes(bench_options_t *options) {
    size_t size = onehop_dtype_size(options->dtype);
    const char *smallest = options->sizes.count > 0 ? "--sizes" : "--min";
    if (options->sizes.count > 0) list_sizes(options);
    if (options->min_bytes < size) {
        complain("%s is \"%zu\": expected at least %zu, an element of %s", smallest, options->min_bytes, size,
                 onehop_dtype_string(options->dtype));
        return EXIT_USAGE;
    }
    if (options->max_bytes < options->min_bytes) {
        complain("--max is \"%zu\": expected at least --min, %zu", options->max_bytes, options->min_bytes);
        return EXIT_USAGE;
    }
    if (options->sizes.count == 0) list_sizes(options);
    return PARSE_GO_ON;
}

static int finish_options(bench_options_t *options) {
    int status = bench_list_sizes(options);
    if (status != PARSE_GO_ON) return status;
    options->mode = options->mode_name != NULL && strcmp(options->mode_name, "eager") == 0 ? BENCH_EAGER : BENCH_GRAPH;
    options->neighbour -= options->neighbour % 16;
    options->seed = data_fresh_seed() >> 1; /* JSON's integers have a sign */
    /* NCCL may not use multicast, which can put GPUs that others share out of service. */
    if (options->peer != NULL) setenv("NCCL_NVLS_ENABLE", "0", 1);
    ranks_resolve(&options->ranks);
    return PARSE_GO_ON;
}

int command_bench(int argc, char **argv) {
    bench_options_t o = {.ranks.device = ONEHOP_DEVICE_AUTO, .min_bytes = 8, .max_bytes = 64 << 20, .factor = 2};
    o.iters = o.warmup = -1;
    o.rounds = 9;
    const option_row_t rows[] = {
        {"nranks", 'n', "N", parse_int, &o.ranks.nranks, 1, ONEHOP_MAX_RANKS,
         "ranks to start (default: as many as processors, 2 to 8)"},
        {"min", 'b', "BYTES", parse_size, &o.min_bytes, 1, PTRDIFF_MAX,
         "first size of a message: 8, 4K, 1M, 1G ... (default 8)"},
        {"max", 'e', "BYTES", parse_size, &o.max_bytes, 1, PTRDIFF_MAX, "last size (default 64M)"},
        {"factor", 'f', "N", parse_int, &o.factor, 2, INT_MAX, "each size is N times the one before (default 2)"},
        {"sizes", 0, "LIST", parse_sizes, &o.sizes, 1, PTRDIFF_MAX, "these sizes instead: 4K,64K,1M"},
        {"dtype", 'd', "TYPE", parse_dtype, &o.dtype, 0, 0, "type of the elements (default float32)"},
        {"op", 'o', "OP", parse_op, &o.op, 0, 0, "sum, prod, min, max or avg (default sum)"},
        {"iters", 0, "N", parse_int, &o.iters, 1, 1000000,
         "operations to time (default: as many as the size asks for)"},
        {"warmup", 0, "N", parse_int, &o.warmup, 0, 1000000,
         "operations before that (default: for 10 ms; on GPUs 3 rounds)"},
        {"registered", 'r', NULL, NULL, &o.registered, 0, 0, "use registered buffers"},
        {"algorithm", 'a', "NAME", parse_algorithm, &o.ranks.algorithm, 0, 0,
         "force an algorithm; `onehop info` lists them"},
        {"device", 0, "DEVICE", parse_device, &o.ranks.device, 0, 0, "auto, host or cuda (default auto)"},
        {"threads", 't', NULL, NULL, &o.ranks.threads, 0, 0, "ranks are threads of one process"},
        {"timeout-ms", 0, "N", parse_int, &o.ranks.timeout_ms, 1, INT_MAX, "how long an operation may wait for a rank"},
        {"mode", 0, "graph|eager", parse_word, &o.mode_name, 0, 0,
         "on GPUs: replay a CUDA graph, or make every call (default graph)"},
        {"rounds", 0, "N", parse_int, &o.rounds, 5, 10000, "on GPUs: rounds to take the median of (default 9)"},
        {"neighbour", 0, "BYTES", parse_size, &o.neighbour, 16, PTRDIFF_MAX,
         "on GPUs: after each operation, a kernel reads and writes so much"},
        {"peer", 0, "nccl", parse_word, &o.peer, 0, 0, "on GPUs: measure NCCL too"},
        {"nccl", 0, "FILE", parse_path, &o.nccl, 0, 0, "NCCL's library (default libnccl.so.2)"},
        {"json", 'j', "FILE", parse_path, &o.json, 0, 0, "write the results to FILE too"},
    };
    const command_line_t line = {
        .usage = "[OPTIONS]",
        .about =
            "Times all-reduces of growing size, out of place and in place, and verifies their results.\n"
            "\n"
            "The time is that of the slowest rank, the median of many. algbw is bytes / time, busbw is\n"
            "algbw * 2(n-1)/n for n ranks.\n"
            "\n"
            "On GPUs a round is a graph of 48 operations, 20 from 8 MiB, over four pairs of buffers. A neighbour's\n"
            "kernel reads each byte of a buffer of its own and writes it back; what it takes alone is subtracted.\n"
            "host is the processor's time for one call. NCCL runs with NCCL_NVLS_ENABLE=0, with ordinary memory\n"
            "(nccl) and with memory registered as a window (nccl_window).\n"
            "\n"
            "Under `onehop launch` or torchrun, and without --nranks, this process is one of their ranks.",
        .options = rows,
        .noptions = sizeof rows / sizeof rows[0],
    };
    int operand, status = parse_command_line(&line, argc, argv, &operand);
    if (status == PARSE_GO_ON) status = finish_options(&o);
    return status == PARSE_GO_ON ? ranks_run(&o.ranks, bench_rank, &o) : status;
}
