/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CUDA backend on real GPUs: ranks are processes with a GPU each. Run by scripts/test-gpu, on machines that have
 * neither a compiler nor cmocka.
 *
 * usage: test_on_gpu [CASE ...]     all cases if none is named; ends with the first that fails
 *        test_on_gpu --list         their names, the seconds that each may take, and the GPUs that it needs
 *
 * The exit status is 77 if there are too few GPUs for all of them.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "on_gpu.h"

enum { SKIPPED = 77, USAGE = 2, MOST_GPUS = 8 };

typedef struct test_case {
    const char *name;
    void (*run)(int gpus);
    unsigned seconds; /* then SIGALRM ends it, and with it its ranks */
    int gpus;         /* the fewest */
} test_case_t;

static const test_case_t cases[] = {
    {"late", case_late, 60, 2},
    {"killed_in_calls", case_killed_in_calls, 240, 2},
    {"killed_in_graphs", case_killed_in_graphs, 150, 2},
    {"stopped", case_stopped, 120, 2},
    {"abort", case_abort, 60, 2},
    {"stress", case_stress, 100, 1},
    {"mixed", case_mixed, 150, 1},
    {"bounds", case_bounds, 100, 1},
    {"memory", case_memory, 60, 2},
    {"lifetime", case_lifetime, 90, 1},
    {"cache", case_cache, 120, 1},
    {"tuning", case_tuning, 120, 1},
    {"register", case_register, 200, 1},
    {"graphs", case_graphs, 150, 1},
    {"streams", case_streams, 100, 1},
    {"replays", case_replays, 100, 1},
    {"streams_that_go", case_streams_that_go, 60, 1},
    {"two_comms", case_two_comms, 100, 2},
    {"broken_context", case_broken_context, 60, 1},
};
enum { CASES = sizeof cases / sizeof *cases };

/* In a process of its own, since who has asked must not fork. */
static void count_rank(int rank, int nranks, void *ctx) {
    (void)rank, (void)nranks;
    atomic_store((atomic_int *)ctx, gpu_count());
}

static int count_gpus(void) {
    atomic_int *count = shared_zalloc(sizeof *count);
    team_run(1, count_rank, count);
    int gpus = atomic_load(count);
    shared_free(count, sizeof *count);
    return gpus < MOST_GPUS ? gpus : MOST_GPUS;
}

/* Whether there were GPUs enough. */
static bool run_case(const test_case_t *test, int gpus) {
    if (gpus < test->gpus) {
        printf("%s: skipped: there are %d GPUs, and it needs %d\n", test->name, gpus, test->gpus);
        return false;
    }
    printf("%s ...\n", test->name);
    fflush(stdout);
    int64_t begin = now_ns();
    alarm(test->seconds + 3 * (unsigned)tests_seconds(0)); /* a case has up to three such parts */
    test->run(gpus);
    alarm(0);
    printf("%s: passed in %.1f s\n", test->name, (double)(now_ns() - begin) * 1e-9);
    fflush(stdout);
    return true;
}

static const test_case_t *find_case(const char *name) {
    for (int i = 0; i < CASES; i++) {
        if (strcmp(cases[i].name, name) == 0) return &cases[i];
    }
    fprintf(stderr, "test_on_gpu: there is no case \"%s\"; see --list\n", name);
    exit(USAGE);
}

int main(int argc, char **argv) {
    const test_case_t *wanted[CASES];
    int count = 0, run = 0;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < CASES; i++) printf("%s %u %d\n", cases[i].name, cases[i].seconds, cases[i].gpus);
        return 0;
    }
    for (int i = 1; i < argc && count < CASES; i++) wanted[count++] = find_case(argv[i]);
    for (int i = 0; i < CASES && argc == 1; i++) wanted[count++] = &cases[i];
    tests_begin("on_gpu");
    int gpus = count_gpus();
    for (int i = 0; i < count; i++) run += run_case(wanted[i], gpus);
    return run > 0 ? 0 : SKIPPED;
}
