/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `onehop check`: all-reduces whose results are known to the bit.
 *
 * For every number of ranks and every algorithm there is one run, in three parts: all types and operations at small
 * sizes; sizes around every power of two and around every size where the library changes its mind; and, until the
 * run's share of the time is used up, cases drawn at random. A check is one result, verified by one rank.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "clock.h"
#include "commands.h"
#include "data.h"
#include "device.h"
#include "machine.h"
#include "memory.h"
#include "parse.h"
#include "say.h"

enum {
    ALWAYS = 256 * 1024, /* sizes to here are checked however late it is */
    SWITCHES = 24,
    ALL = 1000,   /* no type and no operation */
    CAPTURED = 4, /* on a GPU, one case of so many that are drawn runs in a graph */
};

/* A number below `bound`, the next of the run's sequence. */
static uint64_t draw(check_run_t *run, uint64_t bound) {
    uint64_t bits = data_mix(run->seed + run->draws++);
    return bound > 1 ? bits % bound : 0;
}

static int count_names(const char *(*name)(int)) {
    int names = 0;
    while (name(names) != NULL) names++;
    return names;
}

static const char *dtype_name(int index) { return onehop_dtype_string((onehop_dtype_t)index); }
static const char *op_name(int index) { return onehop_op_string((onehop_op_t)index); }

/* ---- which cases ---- */

/* Whether no rank has time left: collective, so that all stop together. */
static bool time_is_up(check_run_t *run, bool *up) {
    uint8_t late = now_ns() >= run->deadline_ns;
    bool good = rank_all_reduce_host(run->rank, &late, 1, ONEHOP_UINT8, ONEHOP_MAX);
    *up = late != 0;
    return good;
}

static bool has_only_dtype(const check_run_t *run) { return onehop_dtype_string(run->options->dtype) != NULL; }
static bool has_only_op(const check_run_t *run) { return onehop_op_string(run->options->op) != NULL; }

static bool is_wanted(const check_run_t *run, const check_case_t *c) {
    return (!has_only_dtype(run) || c->dtype == run->options->dtype) &&
           (!has_only_op(run) || c->op == run->options->op);
}

static bool check_small(check_run_t *run) {
    int dtypes = count_names(dtype_name), ops = count_names(op_name);
    for (int i = 0; i < dtypes * ops * 4; i++) {
        check_case_t c = {.dtype = (onehop_dtype_t)(i / 4 % dtypes), .op = (onehop_op_t)(i / 4 / dtypes)};
        c.in_place = i & 1, c.registered = i >> 1 & 1;
        if (!is_wanted(run, &c)) continue;
        const size_t counts[] = {0, 1, 2, 3 + 2 * draw(run, 32), draw(run, 4096)};
        for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
            c.count = counts[k];
            c.seed = draw(run, UINT64_MAX);
            if (c.count * onehop_dtype_size(c.dtype) <= run->options->max_bytes && !check_case_run(run, &c))
                return false;
        }
    }
    return true;
}

/* A case of about `bytes`, all else drawn. */
static bool run_drawn_case(check_run_t *run, size_t bytes) {
    check_case_t c = {.dtype = (onehop_dtype_t)draw(run, (uint64_t)count_names(dtype_name)),
                      .op = (onehop_op_t)draw(run, (uint64_t)count_names(op_name)),
                      .in_place = draw(run, 2),
                      .registered = draw(run, 2),
                      .seed = draw(run, UINT64_MAX)};
    if (has_only_dtype(run)) c.dtype = run->options->dtype;
    if (has_only_op(run)) c.op = run->options->op;
    c.captured = run->rank->gpu != NULL && draw(run, CAPTURED) == 0;
    size_t size = onehop_dtype_size(c.dtype), near = bytes / size + draw(run, 3), most = run->options->max_bytes / size;
    c.count = near == 0 ? 0 : near - 1 < most ? near - 1 : most;
    return check_case_run(run, &c);
}

/* Sizes where the answer of onehop_comm_explain changes, as rank 0 sees them. */
typedef struct switches {
    check_run_t *run;
    int registered, found;
    uint64_t bytes[SWITCHES];
} switches_t;

static bool answer(const switches_t *s, size_t bytes, onehop_choice_t *choice) {
    choice->size = sizeof *choice;
    if (!rank_try(s->run->rank,
                  onehop_comm_explain(s->run->rank->comm, bytes, ONEHOP_UINT8, ONEHOP_SUM, s->registered, choice)))
        return false;
    if (choice->chunk_bytes == bytes) choice->chunk_bytes = 0; /* not cut, whatever the size */
    return true;
}

/* Looks for all of them in low+1 ... high. */
static bool find_switches(switches_t *s, size_t low, size_t high) {
    onehop_choice_t a, b;
    if (!answer(s, low, &a) || !answer(s, high, &b)) return false;
    bool same = strcmp(a.algorithm, b.algorithm) == 0 && a.chunk_bytes == b.chunk_bytes && a.blocks == b.blocks &&
                a.threads == b.threads && strcmp(a.reason, b.reason) == 0;
    if (same || s->found == SWITCHES) return true;
    if (high == low + 1) {
        s->bytes[s->found++] = high;
        return true;
    }
    size_t middle = low + (high - low) / 2;
    return find_switches(s, low, middle) && find_switches(s, middle, high);
}

static bool check_around(check_run_t *run, size_t bytes, bool *up) {
    if (bytes > ALWAYS && !time_is_up(run, up)) return false;
    for (int i = 0; i < 4 && !*up; i++) {
        if (!run_drawn_case(run, bytes)) return false;
    }
    return true;
}

static bool check_boundaries(check_run_t *run, bool *up) {
    switches_t s = {.run = run};
    for (s.registered = 0; s.registered < 2 && run->rank->rank == 0; s.registered++) {
        for (size_t bytes = 1; bytes < run->options->max_bytes; bytes *= 2) {
            if (!find_switches(&s, bytes, bytes * 2)) return false;
        }
    }
    if (!rank_all_reduce_host(run->rank, s.bytes, SWITCHES, ONEHOP_UINT64, ONEHOP_MAX)) return false;
    for (size_t bytes = 1; bytes <= run->options->max_bytes && !*up; bytes *= 2) {
        if (!check_around(run, bytes, up)) return false;
    }
    for (int i = 0; i < SWITCHES && s.bytes[i] != 0 && !*up; i++) {
        if (s.bytes[i] <= run->options->max_bytes && !check_around(run, s.bytes[i], up)) return false;
    }
    return true;
}

/* Every power of two is as likely as the next. */
static bool check_at_random(check_run_t *run, bool *up) {
    unsigned powers = 0;
    while (run->options->max_bytes >> powers > 1) powers++;
    while (!*up) {
        size_t below = (size_t)1 << draw(run, powers + 1);
        if (!run_drawn_case(run, below + draw(run, below)) || !time_is_up(run, up)) return false;
    }
    return true;
}

/* ---- a run ---- */

static bool sum_up(check_run_t *run) {
    uint64_t counters[2] = {run->passed, run->failed};
    onehop_comm_info_t info = {.size = sizeof info};
    if (!rank_all_reduce_host(run->rank, counters, 2, ONEHOP_UINT64, ONEHOP_SUM) ||
        !rank_try(run->rank, onehop_comm_get_info(run->rank->comm, &info))) {
        return false;
    }
    run->totals->passed = counters[0];
    run->totals->failed = counters[1];
    run->totals->nranks = info.nranks;
    run->totals->device = (int)info.device;
    if (info.rank == 0) run->totals->was_first = true;
    return true;
}

static bool get_memory(check_run_t *run, size_t room) {
    rank_t *rank = run->rank;
    for (int registered = 0; registered < 2; registered++) {
        bool shadow = rank->gpu != NULL;
        run->memory[registered] = memory_get(rank, room, registered && !shadow);
        if (run->memory[registered] == NULL) return false;
    }
    if (rank->gpu == NULL) return true;
    if (!rank_gpu(rank, (run->on_gpu[0] = gpu_alloc(rank->gpu, room)) != NULL)) return false;
    return rank_meet(rank) && (run->on_gpu[1] = memory_get(rank, room, true)) != NULL;
}

/* After a failure, what belongs to the communicator ends with it. */
static bool drop_memory(check_run_t *run, bool good) {
    rank_t *rank = run->rank;
    unsigned char *registered = rank->gpu != NULL ? run->on_gpu[1] : run->memory[1];
    if (good) good = memory_drop(rank, registered, true);
    if (rank->gpu != NULL) {
        gpu_free(rank->gpu, run->on_gpu[0]);
        memory_drop(rank, run->memory[1], false);
    }
    memory_drop(rank, run->memory[0], false);
    return good;
}

static bool check_all(check_run_t *run) {
    bool up = false;
    return check_small(run) && check_boundaries(run, &up) && check_at_random(run, &up) && sum_up(run);
}

static bool check_rank(rank_t *rank, void *ctx) {
    check_run_t run = *(const check_run_t *)ctx;
    run.rank = rank;
    size_t room = 2 * (run.options->max_bytes + CHECK_SLACK);
    if (!memory_suffices(rank, 2 * room) || !rank_agree(rank, &run.seed)) return false;
    bool good = get_memory(&run, room) && check_all(&run);
    return drop_memory(&run, good);
}

/* The whole sweep, as the one who starts the runs sees it. */
typedef struct check_sweep {
    const check_options_t *options;
    check_totals_t *totals;
    int64_t end_ns;
    uint64_t runs_left; /* about */
    uint64_t passed, failed;
} check_sweep_t;

static bool run_once(check_sweep_t *sweep, int nranks, const char *algorithm) {
    check_totals_t *totals = sweep->totals;
    int64_t now = now_ns(), left = sweep->end_ns > now ? sweep->end_ns - now : 0;
    check_run_t run = {.options = sweep->options, .algorithm = algorithm, .totals = totals};
    run.deadline_ns = now + left / (int64_t)sweep->runs_left;
    run.seed = data_mix(sweep->options->seed + sweep->runs_left);
    if (sweep->runs_left > 1) sweep->runs_left--;
    ranks_t ranks = sweep->options->ranks;
    ranks.nranks = nranks;
    ranks.algorithm = algorithm;
    progress_show("%s, %d ranks", algorithm, nranks);
    bool good = ranks_run(&ranks, check_rank, &run) == EXIT_OK;
    progress_clear();
    if (!good) return false;
    sweep->passed += totals->passed;
    sweep->failed += totals->failed;
    if (totals->was_first) {
        printf("%2d ranks  %-13s %10" PRIu64 " passed %10" PRIu64 " failed\n", totals->nranks, algorithm,
               totals->passed, totals->failed);
    }
    fflush(stdout);
    return !ferror(stdout); /* check_sweep complains */
}

static const char *algorithm_name(const check_sweep_t *sweep, int index) {
    return onehop_algorithm_name((onehop_device_t)sweep->totals->device, index);
}

/* "auto" comes first, and tells the device, which has the algorithms. */
static bool run_all(check_sweep_t *sweep, int nranks) {
    const char *only = sweep->options->algorithm;
    if (!run_once(sweep, nranks, only != NULL ? only : "auto")) return false;
    for (int i = 0; only == NULL && algorithm_name(sweep, i) != NULL; i++) {
        if (!run_once(sweep, nranks, algorithm_name(sweep, i))) return false;
    }
    return true;
}

static int check_sweep(const check_options_t *options) {
    check_sweep_t sweep = {.options = options, .totals = shared_alloc(sizeof *sweep.totals)};
    if (sweep.totals == NULL) {
        complain("no shared memory");
        return EXIT_FAILED;
    }
    sweep.end_ns = now_ns() + (int64_t)(options->seconds * 1e9);
    bool starts = options->ranks.nranks > 0;
    range_t sizes = starts ? options->nranks : (range_t){0, 0};
    onehop_device_t device = options->ranks.device == ONEHOP_DEVICE_CUDA ? ONEHOP_DEVICE_CUDA : ONEHOP_DEVICE_HOST;
    uint64_t runs = 1;
    while (options->algorithm == NULL && onehop_algorithm_name(device, (int)runs - 1) != NULL) runs++;
    sweep.runs_left = runs * (uint64_t)(sizes.last - sizes.first + 1);
    bool good = true;
    for (int n = sizes.first; n <= sizes.last && good; n++) good = run_all(&sweep, n);
    if (starts || sweep.totals->was_first) {
        printf("%" PRIu64 " checks passed, %" PRIu64 " failed%s\n", sweep.passed, sweep.failed,
               good ? "" : "; the last run broke off");
        good = stdout_arrived() && good;
    }
    shared_free(sweep.totals, sizeof *sweep.totals);
    return good && sweep.failed == 0 ? EXIT_OK : EXIT_FAILED;
}

static void print_head(const check_options_t *options) {
    machine_t machine = {0};
    machine_describe(&machine);
    printf("# onehop %s on %s: %s; seed %" PRIu64 "\n", onehop_version(), machine.host, machine.cpu, options->seed);
}

int command_check(int argc, char **argv) {
    check_options_t o = {.ranks.device = ONEHOP_DEVICE_AUTO, .seconds = 20, .max_bytes = 16 << 20};
    o.dtype = (onehop_dtype_t)ALL;
    o.op = (onehop_op_t)ALL;
    const option_row_t rows[] = {
        {"nranks", 'n', "N", parse_range, &o.nranks, 1, ONEHOP_MAX_RANKS, "ranks to start, A or A-B (default 1-8)"},
        {"seconds", 's', "S", parse_seconds, &o.seconds, 0, 86400,
         "about how long to go on (default 20); the small sizes are always done"},
        {"max", 'e', "BYTES", parse_size, &o.max_bytes, 64, PTRDIFF_MAX / 8, "largest message (default 16M)"},
        {"algorithm", 'a', "NAME", parse_algorithm, &o.algorithm, 0, 0, "check only this one (default: each in turn)"},
        {"dtype", 'd', "TYPE", parse_dtype, &o.dtype, 0, 0, "check only this type (default: all)"},
        {"op", 'o', "OP", parse_op, &o.op, 0, 0, "check only this operation (default: all)"},
        {"device", 0, "DEVICE", parse_device, &o.ranks.device, 0, 0, "auto, host or cuda (default auto)"},
        {"threads", 't', NULL, NULL, &o.ranks.threads, 0, 0, "ranks are threads of one process"},
        {"timeout-ms", 0, "N", parse_int, &o.ranks.timeout_ms, 1, INT_MAX, "how long an operation may wait for a rank"},
        {"seed", 0, "N", parse_seed, &o.seed, 0, 0, "draw the same data and cases as the run that printed it"},
    };
    const command_line_t line = {
        .usage = "[OPTIONS]",
        .about = "Verifies all-reduces to the bit: all types and operations, in and out of place, registered and\n"
                 "not, misaligned, every algorithm, sizes around every boundary, and at random. On GPUs some of the\n"
                 "calls are captured into a graph that is replayed with fresh data.\n"
                 "\n"
                 "Under `onehop launch` or torchrun, and without --nranks, this process is one of their ranks.",
        .options = rows,
        .noptions = sizeof rows / sizeof rows[0],
    };
    o.seed = data_fresh_seed();
    int operand, status = parse_command_line(&line, argc, argv, &operand);
    if (status != PARSE_GO_ON) return status;
    o.ranks.nranks = o.nranks.first;
    ranks_resolve(&o.ranks);
    if (o.nranks.first == 0) o.nranks = (range_t){1, 8};
    if (o.ranks.nranks > 0) print_head(&o);
    return check_sweep(&o);
}
