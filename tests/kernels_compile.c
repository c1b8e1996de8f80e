/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles the kernels for GPUs that need not be here, and fails on warnings, register spills and stack use.
 *
 * usage: kernels_compile [all]
 *     Every algorithm, number of packets, data type and operation, in whole units or not, for each architecture; the
 *     number of ranks and the rank change from one to the next. With `all`: every number of ranks and every rank too,
 * which takes hours. Exit status 77: there is no NVRTC here; ONEHOP_NVRTC may name it.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "arena/device_sizes.h"
#include "backend/cuda/compile.h"
#include "base/dtype.h"
#include "select/device.h"

enum { SKIP = 77, OPTIONS = 13, OPTION = 48, THREADS = 64, MULTIPROCESSORS = 132, WORKSPACE = 32 << 20 };

static const int architectures[] = {80, 90, 100};
static const int packets[] = {1, 2, 4};
/* The usual numbers first. */
static const int teams[] = {2, 4, 8, 3, 5, 6, 7, 1};
enum {
    ARCHITECTURES = sizeof architectures / sizeof *architectures,
    PACKETS = sizeof packets / sizeof *packets,
    TEAMS = sizeof teams / sizeof *teams
};

typedef struct variant {
    int architecture, algorithm, packets, whole, dtype, op, nranks, rank;
} variant_t;

typedef struct work {
    oh_nvrtc_t nvrtc;
    variant_t *variants;
    int count;
    atomic_int next, done, bad;
    atomic_int registers; /* most of any kernel */
} work_t;

/* ---- what there is ---- */

static bool knows(const oh_nvrtc_t *nvrtc, int architecture) {
    int count = 0, known[256];
    if (nvrtc->nvrtcGetNumSupportedArchs(&count) != NVRTC_SUCCESS || count > 256) return false;
    if (nvrtc->nvrtcGetSupportedArchs(known) != NVRTC_SUCCESS) return false;
    for (int i = 0; i < count; i++) {
        if (known[i] == architecture) return true;
    }
    return false;
}

static void add(work_t *work, variant_t variant) {
    if ((work->count & (work->count - 1)) == 0) {
        size_t room = work->count == 0 ? 1 : 2 * (size_t)work->count;
        work->variants = realloc(work->variants, room * sizeof variant);
        if (work->variants == NULL) exit(1);
    }
    work->variants[work->count++] = variant;
}

/* Every number of ranks and rank, or the next in turn. */
static void add_ranks(work_t *work, variant_t variant, bool all) {
    if (!all) {
        variant.nranks = teams[work->count % TEAMS];
        variant.rank = work->count / TEAMS % variant.nranks;
        add(work, variant);
        return;
    }
    for (int i = 0; i < TEAMS; i++) {
        variant.nranks = teams[i];
        for (variant.rank = 0; variant.rank < variant.nranks; variant.rank++) add(work, variant);
    }
}

static void add_types(work_t *work, variant_t variant, bool all) {
    for (variant.dtype = 0; variant.dtype < OH_DTYPES; variant.dtype++) {
        for (variant.op = 0; variant.op < OH_OPS; variant.op++) add_ranks(work, variant, all);
    }
}

static void list(work_t *work, bool all) {
    for (int i = 0; i < ARCHITECTURES; i++) {
        variant_t variant = {.architecture = architectures[i]};
        if (!knows(&work->nvrtc, variant.architecture)) {
            printf("sm_%d is left out: this NVRTC does not know it\n", variant.architecture);
            continue;
        }
        for (variant.algorithm = 0; variant.algorithm < OH_DEVICE_ALGORITHMS; variant.algorithm++) {
            int choices = oh_device_algorithms[variant.algorithm].packets ? PACKETS : 1;
            for (int k = 0; k < choices; k++) {
                variant.packets = packets[k];
                for (variant.whole = 0; variant.whole < 2; variant.whole++) add_types(work, variant, all);
            }
        }
    }
}

/* ---- one of them ---- */

static void define(char options[OPTIONS][OPTION], int *count, const char *name, size_t value) {
    snprintf(options[(*count)++], OPTION, "-D%s=%zu", name, value);
}

static int describe(const variant_t *v, char options[OPTIONS][OPTION]) {
    int count = 0;
    oh_device_sizes_t sizes = oh_device_sizes_make(WORKSPACE, v->nranks, MULTIPROCESSORS);
    define(options, &count, "OH_NRANKS", (size_t)v->nranks);
    define(options, &count, "OH_RANK", (size_t)v->rank);
    define(options, &count, "OH_DTYPE", (size_t)v->dtype);
    define(options, &count, "OH_OP", (size_t)v->op);
    define(options, &count, "OH_K", (size_t)v->packets);
    define(options, &count, "OH_THREADS", (size_t)oh_device_threads_max(v->nranks, v->packets));
    define(options, &count, "OH_TEAMS", (size_t)sizes.teams);
    define(options, &count, "OH_SLOT_PACKETS", (size_t)sizes.slot_packets);
    define(options, &count, "OH_PAGES_AT", sizes.pages_at);
    define(options, &count, "OH_PAGE_BYTES", sizes.page_bytes);
    define(options, &count, "OH_PART",
           oh_device_part_units((oh_device_algorithm_t)v->algorithm, v->nranks, sizes.page_bytes));
    define(options, &count, "OH_WHOLE", (size_t)v->whole);
    snprintf(options[count++], OPTION, "--ptxas-options=-v");
    return count;
}

static void complain(work_t *work, const variant_t *v, const char *about, const char *text) {
    atomic_fetch_add(&work->bad, 1);
    printf("%s: packets %d%s, rank %d of %d, %s %s, sm_%d: %s\n%s\n", oh_device_algorithms[v->algorithm].name,
           v->packets, v->whole ? " whole" : "", v->rank, v->nranks, onehop_dtype_string((onehop_dtype_t)v->dtype),
           onehop_op_string((onehop_op_t)v->op), v->architecture, about, text);
}

/* The assembler speaks of each function that it made; there must be one, of one kernel. */
static void judge(work_t *work, const variant_t *v, const char *log) {
    static const char frame[] = "bytes stack frame";
    static const char clean[] = " 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
    const char *first = strstr(log, frame), *used = strstr(log, "Used ");
    if (first == NULL || used == NULL || strstr(first + 1, frame) != NULL) {
        complain(work, v, "expected one function", log);
    } else if (strstr(log, "warning") != NULL) {
        complain(work, v, "there are warnings", log);
    } else if (strstr(log, clean) == NULL) {
        char line[128];
        while (first > log && first[-1] != '.' && first[-1] != '\n') first--;
        snprintf(line, sizeof line, "%.*s", (int)strcspn(first, "\n"), first);
        complain(work, v, "registers are spilled, or a stack is used", line);
    }
    int registers = used == NULL ? 0 : atoi(used + strlen("Used ")), most = atomic_load(&work->registers);
    while (registers > most && !atomic_compare_exchange_weak(&work->registers, &most, registers)) continue;
}

static void compile(work_t *work, const variant_t *v) {
    char texts[OPTIONS][OPTION], *log;
    const char *options[OPTIONS];
    void *cubin;
    size_t bytes;
    int count = describe(v, texts);
    for (int i = 0; i < count; i++) options[i] = texts[i];
    oh_compilation_t what = {oh_device_algorithms[v->algorithm].source, options, count, v->architecture / 10,
                             v->architecture % 10};
    if (oh_compile(&work->nvrtc, &what, &cubin, &bytes, &log) != ONEHOP_SUCCESS) {
        complain(work, v, "does not compile", onehop_last_error());
        return;
    }
    judge(work, v, log);
    free(cubin);
    free(log);
}

static void *run(void *context) {
    work_t *work = context;
    for (int i; (i = atomic_fetch_add(&work->next, 1)) < work->count;) {
        compile(work, &work->variants[i]);
        atomic_fetch_add(&work->done, 1);
    }
    return NULL;
}

static void run_all(work_t *work) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1, hired = 0;
    pthread_t threads[THREADS];
    while (hired < count && hired < THREADS && pthread_create(&threads[hired], NULL, run, work) == 0) hired++;
    if (hired == 0) run(work);
    for (int i = 0; i < hired; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    static work_t work;
    if (oh_nvrtc_open(getenv("ONEHOP_NVRTC"), &work.nvrtc) != ONEHOP_SUCCESS) {
        printf("skipped: %s\n", onehop_last_error());
        return SKIP;
    }
    list(&work, argc > 1 && strcmp(argv[1], "all") == 0);
    run_all(&work);
    printf("NVRTC %d.%d: %d kernels, %d of them bad; at most %d registers\n", work.nvrtc.version / 1000,
           work.nvrtc.version % 1000 / 10, atomic_load(&work.done), atomic_load(&work.bad),
           atomic_load(&work.registers));
    free(work.variants);
    return work.count > 0 && atomic_load(&work.bad) == 0 && atomic_load(&work.done) == work.count ? 0 : 1;
}
