/* SPDX-License-Identifier: Apache-2.0 */
/* `onehop tune`: options, the runs of ranks, and what is said in the end. */
#include "tune.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "commands.h"
#include "data.h"
#include "machine.h"
#include "output.h"
#include "say.h"

enum {
    ROUNDS = 7,
    NEIGHBOUR = 64 << 20,
    REPETITIONS_ENOUGH = 3,
    GPU_RANKS = 8,     /* most that the library takes */
    LARGEST = 1 << 30, /* the library's tables end there */
};

int tune_wanted(int count) { return count > 0 ? count : 1; }

/* ---- what is said ---- */

void tune_key_text(const tune_key_t *key, char text[TUNE_KEY_TEXT]) {
    if (key->device == ONEHOP_DEVICE_HOST) {
        snprintf(text, TUNE_KEY_TEXT, "%d ranks on the host%s%s, %s buffers", key->nranks,
                 key->placement[0] != '\0' ? ", " : "", key->placement, key->registered ? "registered" : "ordinary");
        return;
    }
    char bound[32] = "";
    if (key->max_blocks > 0) snprintf(bound, sizeof bound, ", at most %d blocks", key->max_blocks);
    snprintf(text, TUNE_KEY_TEXT, "%d ranks on %s, %s, %s%s", key->nranks, key->gpu, key->links,
             onehop_dtype_string(key->dtype), bound);
}

static void print_row(const tune_row_t *row) {
    char shape[TUNE_SHAPE_TEXT];
    tune_shape_text(&row->shape, shape);
    printf("%12zu %12zu  %-28s %12zu %10.2f %10.2f %7.2fx\n", row->first_bytes, row->last_bytes, shape, row->at_bytes,
           row->time_us, row->before_us, row->before_us / row->time_us);
}

/* What there was no time for; and what does not count. */
static void print_gaps(const tune_table_t *table) {
    if (table->skipped > 0) {
        printf("# no time was left for %d of %d shapes: --seconds gives more\n", table->skipped, table->shapes);
    }
    if (table->repetitions < REPETITIONS_ENOUGH) {
        printf("# the best were repeated %d times, too few to be sure: --seconds gives more\n", table->repetitions);
    }
    if (table->elsewhere > 0) {
        printf("# %d measurements do not count, since the ranks were not %s then\n", table->elsewhere,
               table->key.placement);
    }
}

static void print_table(const tune_table_t *table) {
    char key[TUNE_KEY_TEXT];
    tune_key_text(&table->key, key);
    printf("\n# %s\n", key);
    if (table->nrows == 0) {
        printf("# no table: nothing was found to be as fast as what is in force: --seconds gives more\n");
        return;
    }
    printf("#%11s %12s  %-28s %12s %10s %10s %8s\n", "from", "to", "shape", "at", "time", "before", "faster");
    printf("#%11s %12s  %-28s %12s %10s %10s\n", "(bytes)", "(bytes)", "", "(bytes)", "(us)", "(us)");
    for (int i = 0; i < table->nrows; i++) print_row(&table->rows[i]);
    print_gaps(table);
}

static void print_head(const tune_options_t *options) {
    machine_t machine = {0};
    machine_describe(&machine);
    printf("# onehop %s on %s: %s; about %g s; seed %llu\n", onehop_version(), machine.host, machine.cpu,
           options->seconds, (unsigned long long)options->bench.seed);
}

/* ---- the whole ---- */

/* What there is, and what becomes of it. */
typedef struct tune_target {
    char path[TUNE_PATH];
    bool good; /* the library takes it; else there is nothing, or nothing of use: */
    char why[TUNE_WHY];
} tune_target_t;

static bool run_all(const tune_options_t *options, tune_found_t *found) {
    int64_t end_ns = now_ns() + (int64_t)(options->seconds * 1e9);
    int runs = tune_wanted(options->nranks.count);
    for (int i = 0; i < runs; i++) {
        int64_t now = now_ns();
        tune_run_t run = {options, now + (end_ns > now ? (end_ns - now) / (runs - i) : 0), found};
        ranks_t ranks = options->ranks;
        ranks.nranks = options->nranks.count > 0 ? options->nranks.values[i] : 0; /* 0: a launcher knows */
        bool good = ranks_run(&ranks, tune_rank, &run) == EXIT_OK;
        progress_clear();
        if (!good) return false;
    }
    return true;
}

/* Only who was rank 0 knows anything. */
static bool tell_all(const tune_options_t *options, const tune_target_t *target, const tune_found_t *found) {
    int rows = 0;
    for (int i = 0; i < found->count; i++) rows += found->tables[i].nrows;
    if (!found->was_first || options->dry_run) return true;
    if (rows == 0) {
        complain("nothing was found in %g s to be as fast as what is in force: --seconds gives more", options->seconds);
        return false;
    }
    if (!tune_file_write(target->path, target->good, found)) return false;
    for (int i = 0; i < found->count; i++) print_table(&found->tables[i]);
    printf("\n");
    if (target->why[0] != '\0') printf("# replaced what was there: %s\n", target->why);
    printf("# written to %s\n", target->path);
    return stdout_arrived();
}

static int tune(const tune_options_t *options, const tune_target_t *target) {
    int on_gpus = tune_wanted(options->dtypes.count) * tune_wanted(options->max_blocks.count);
    int room = tune_wanted(options->nranks.count) * (on_gpus > TUNE_HOST_TABLES ? on_gpus : TUNE_HOST_TABLES);
    size_t bytes = sizeof(tune_found_t) + sizeof(tune_table_t) * (size_t)room;
    tune_found_t *found = shared_alloc(bytes);
    if (found == NULL) {
        complain("no shared memory");
        return EXIT_FAILED;
    }
    found->room = room;
    bool good = run_all(options, found) && tell_all(options, target, found);
    shared_free(found, bytes);
    return good ? EXIT_OK : EXIT_FAILED;
}

/* Finds out before anything is measured whether it can be written. A file that is of no use is not in force either. */
static bool look_at_target(const tune_options_t *options, tune_target_t *target) {
    output_t output;
    bool usual = options->output == NULL;
    if (usual && !tune_file_place(target->path)) {
        complain(
            "--output is missing, and the environment names no place for the file: expected HOME or ONEHOP_TUNING");
        return false;
    }
    if (!usual) snprintf(target->path, sizeof target->path, "%s", options->output);
    target->good = tune_file_is_good(target->path, target->why);
    if (usual && !target->good) setenv("ONEHOP_TUNING", "built-in", 1);
    if (options->dry_run) return true;
    if (usual) tune_file_make_folders(target->path);
    if (output_possible(&output, target->path)) return true;
    complain("%s", output.error);
    return false;
}

/* ---- the command ---- */

static int ascending(const void *a, const void *b) {
    const size_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* In ascending order, each once. */
static void sort_sizes(sizes_t *sizes) {
    int kept = 0;
    qsort(sizes->bytes, (size_t)sizes->count, sizeof sizes->bytes[0], ascending);
    for (int i = 0; i < sizes->count; i++) {
        if (kept == 0 || sizes->bytes[i] != sizes->bytes[kept - 1]) sizes->bytes[kept++] = sizes->bytes[i];
    }
    sizes->count = kept;
}

/* If nobody says how many, and no launcher has made this process a rank. */
static void choose_ranks(tune_options_t *o) {
    if (o->nranks.count > 0) return;
    ranks_resolve(&o->ranks);
    if (o->ranks.nranks == 0) return;
    int gpus = ranks_gpus(&o->ranks);
    o->nranks.values[o->nranks.count++] = gpus < 2 ? o->ranks.nranks : gpus < GPU_RANKS ? gpus : GPU_RANKS;
}

static int finish_options(tune_options_t *o) {
    for (int i = 0; i < o->dtypes.count; i++) {
        if (onehop_dtype_size(o->dtypes.values[i]) > onehop_dtype_size(o->bench.dtype))
            o->bench.dtype = o->dtypes.values[i];
    }
    int status = bench_list_sizes(&o->bench);
    if (status != PARSE_GO_ON) return status;
    sort_sizes(&o->bench.sizes);
    o->bench.neighbour = o->neighbour == TUNE_NOT_GIVEN ? NEIGHBOUR : o->neighbour - o->neighbour % 16;
    choose_ranks(o);
    return PARSE_GO_ON;
}

int command_tune(int argc, char **argv) {
    tune_options_t o = {.ranks = {.device = ONEHOP_DEVICE_AUTO, .algorithm = "auto"},
                        .seconds = 60,
                        .neighbour = TUNE_NOT_GIVEN,
                        .bench = {.min_bytes = 1 << 10, .max_bytes = 64 << 20, .factor = 2, .mode = BENCH_GRAPH}};
    o.bench.rounds = ROUNDS;
    o.bench.iters = o.bench.warmup = -1;
    o.bench.seed = data_fresh_seed();
    const option_row_t rows[] = {
        {"nranks", 'n', "LIST", parse_numbers, &o.nranks, 1, ONEHOP_MAX_RANKS,
         "numbers of ranks: 4, 2,4 or 2-8 (default: that of GPUs or processors, 2 to 8)"},
        {"output", 'o', "FILE", parse_path, &o.output, 0, 0,
         "where the tables go (default: where the library looks for them)"},
        {"seconds", 's', "S", parse_seconds, &o.seconds, 0, 86400, "about how long it may take (default 60)"},
        {"dtype", 'd', "LIST", parse_dtypes, &o.dtypes, 0, 0,
         "on GPUs: types of the elements, a table each (default bfloat16)"},
        {"max-blocks", 0, "LIST", parse_numbers, &o.max_blocks, 0, 65535,
         "on GPUs: bounds on the blocks, a table each; 0: none (default 0)"},
        {"neighbour", 0, "BYTES", parse_size, &o.neighbour, 0, PTRDIFF_MAX,
         "on GPUs: between operations a kernel moves so much; 0: nothing (default 64M)"},
        {"min", 'b', "BYTES", parse_size, &o.bench.min_bytes, 1, LARGEST, "first size of a message (default 1K)"},
        {"max", 'e', "BYTES", parse_size, &o.bench.max_bytes, 1, LARGEST,
         "last size; each is twice the one before (default 64M)"},
        {"sizes", 0, "LIST", parse_sizes, &o.bench.sizes, 1, LARGEST, "these sizes instead: 4K,64K,1M"},
        {"device", 0, "DEVICE", parse_device, &o.ranks.device, 0, 0, "auto, host or cuda (default auto)"},
        {"threads", 't', NULL, NULL, &o.ranks.threads, 0, 0, "ranks are threads of one process"},
        {"timeout-ms", 0, "N", parse_int, &o.ranks.timeout_ms, 1, INT_MAX, "how long an operation may wait for a rank"},
        {"dry-run", 0, NULL, NULL, &o.dry_run, 0, 0, "say what would be measured, and measure nothing"},
    };
    const command_line_t line = {
        .usage = "[OPTIONS]",
        .about =
            "Measures every algorithm, and every way to launch it, on the machine at hand, and writes down which is\n"
            "best from which size of a message on. The library reads that file when a communicator is made:\n"
            "onehop/tuning.json in XDG_CONFIG_HOME or ~/.config, or the file that ONEHOP_TUNING names.\n"
            "`onehop info` shows what is in force then.\n"
            "\n"
            "A table is for a number of ranks; on hosts for a placement of them, for ordinary buffers and for\n"
            "registered ones; on GPUs for a kind of GPU and of links, a type and a bound on blocks. The file's other\n"
            "tables stay. It appears whole or not at all, in the end: until then the old one is in force.\n"
            "\n"
            "First everything is measured once, then for each size the best in turn, several times over; the median\n"
            "counts, of the slowest rank. What is in force stays unless it is slower by more than the noise. When the\n"
            "time is nearly up, it makes do with what it has, and says so. Results are verified.\n"
            "\n"
            "Times are those of `onehop bench`: on GPUs of graphs, beside a neighbour unless that is 0.\n"
            "\n"
            "Under `onehop launch` or torchrun, and without --nranks, this process is one of their ranks.",
        .options = rows,
        .noptions = sizeof rows / sizeof rows[0],
    };
    tune_target_t target = {0};
    int operand, status = parse_command_line(&line, argc, argv, &operand);
    if (status == PARSE_GO_ON) status = finish_options(&o);
    if (status != PARSE_GO_ON) return status;
    if (!look_at_target(&o, &target)) return EXIT_FAILED;
    unsetenv("ONEHOP_MAX_BLOCKS"); /* --max-blocks says it */
    if (o.nranks.count > 0 && !o.dry_run) print_head(&o);
    return tune(&o, &target);
}
