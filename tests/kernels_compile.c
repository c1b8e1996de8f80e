/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiles the kernels for GPUs that need not be here, and fails on warnings, register spills and stack use.
 *
 * usage: kernels_compile [all]
 *     A sample, always the same. For sm_90 every algorithm meets every data type with every operation, and every number
 *     of ranks with every form: packets a thread, one step or several, units whole or not. For the others it meets
 * every number of ranks, and every form. With `all`: all that the library may ever compile, which takes half an hour of
 * two cores. Ranks change from one kernel to the next. Exit status 77: there is no NVRTC here; ONEHOP_NVRTC may name
 * it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "arena/device_sizes.h"
#include "backend/cuda/compile.h"
#include "backend/cuda/specialise.h"
#include "base/dtype.h"
#include "select/built_in.h"
#include "select/device.h"

enum {
    SKIP = 77,
    THREADS = 64,
    MULTIPROCESSORS = 132,
    SAMPLED_WHOLLY = 90,
    FORMS = 2 * 2 * (OH_DEVICE_PACKETS_MAX + 1)
};

static const int architectures[] = {SAMPLED_WHOLLY, 80, 100};
static const size_t workspaces[] = {32 << 20, 1 << 30}; /* the usual one, and one with room for all packets */
static const int packets[] = {1, 2, OH_DEVICE_PACKETS_MAX};
enum {
    ARCHITECTURES = sizeof architectures / sizeof *architectures,
    WORKSPACES = sizeof workspaces / sizeof *workspaces,
    PACKETS = sizeof packets / sizeof *packets
};

typedef struct variant {
    int architecture, nranks, rank;
    size_t workspace;
    oh_device_kernel_t kernel;
    bool whole;
    onehop_dtype_t dtype;
    onehop_op_t op;
} variant_t;

typedef struct list {
    variant_t *variants;
    int count;
} list_t;

/* What a sample has met already. */
typedef struct met {
    bool nranks[OH_DEVICE_ALGORITHMS][OH_GPU_RANKS + 1];
    bool forms[OH_DEVICE_ALGORITHMS][FORMS];
    bool types[OH_DEVICE_ALGORITHMS][OH_DTYPES][OH_OPS];
    bool together[OH_DEVICE_ALGORITHMS][OH_GPU_RANKS + 1][FORMS];
} met_t;

typedef struct work {
    oh_nvrtc_t nvrtc;
    list_t list;
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

static void add(list_t *list, const variant_t *variant) {
    if ((list->count & (list->count - 1)) == 0) {
        size_t room = list->count == 0 ? 1 : 2 * (size_t)list->count;
        list->variants = realloc(list->variants, room * sizeof *variant);
        if (list->variants == NULL) exit(1);
    }
    list->variants[list->count] = *variant;
    list->variants[list->count].rank = list->count % variant->nranks;
    list->count++;
}

static void add_types(list_t *list, variant_t variant) {
    for (int whole = 0; whole < 2; whole++) {
        for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
            for (int op = 0; op < OH_OPS; op++) {
                variant.whole = whole == 1;
                variant.dtype = (onehop_dtype_t)dtype;
                variant.op = (onehop_op_t)op;
                add(list, &variant);
            }
        }
    }
}

static bool has_kernel(const list_t *list, const variant_t *variant) {
    for (int i = 0; i < list->count; i++) {
        const variant_t *v = &list->variants[i];
        if (v->nranks == variant->nranks && v->kernel.algorithm == variant->kernel.algorithm &&
            v->kernel.packets == variant->kernel.packets && v->kernel.many == variant->kernel.many) {
            return true;
        }
    }
    return false;
}

/* The kernels that this text in the configuration leads to, but for those that are listed already. */
static void add_kernels(list_t *list, variant_t variant, const char *algorithm) {
    oh_device_kernel_t kernels[OH_DEVICE_KERNELS];
    oh_device_forced_t forced;
    if (oh_device_forced_parse(algorithm, &forced) != ONEHOP_SUCCESS) {
        printf("%s\n", onehop_last_error());
        exit(1);
    }
    const oh_device_sizes_t sizes = oh_device_sizes_make(variant.workspace, variant.nranks, MULTIPROCESSORS);
    const oh_device_question_t question = {.nranks = variant.nranks,
                                           .forced = forced,
                                           .teams = sizes.teams,
                                           .ring = sizes.ring,
                                           .slot_packets = sizes.packets,
                                           .page_bytes = sizes.page_bytes};
    oh_device_table_t table;
    if (!oh_built_in_gpus("NVIDIA H200", OH_NVLINK, variant.nranks, &table)) exit(1);
    int count = oh_device_kernels(&question, &table, kernels);
    for (int i = 0; i < count; i++) {
        variant.kernel = kernels[i];
        if (!has_kernel(list, &variant)) add_types(list, variant);
    }
}

static list_t list_all(int architecture) {
    list_t list = {NULL, 0};
    variant_t variant = {.architecture = architecture};
    for (variant.nranks = 1; variant.nranks <= OH_GPU_RANKS; variant.nranks++) {
        for (int w = 0; w < WORKSPACES; w++) {
            variant.workspace = workspaces[w];
            add_kernels(&list, variant, "auto");
            for (int i = 0; i < OH_DEVICE_ALGORITHMS * PACKETS; i++) {
                char text[64];
                snprintf(text, sizeof text, "%s:%d:512:1", oh_device_algorithms[i / PACKETS].name,
                         packets[i % PACKETS]);
                add_kernels(&list, variant, text);
            }
        }
    }
    return list;
}

/* ---- a sample of it ---- */

/* Whether a variant has something that was not met: in both ways that count, or in either. */
static bool is_wanted(met_t *met, const variant_t *v, bool both) {
    const oh_device_algorithm_t a = v->kernel.algorithm;
    const int form = v->kernel.packets * 4 + v->kernel.many * 2 + v->whole;
    const bool wholly = v->architecture == SAMPLED_WHOLLY;
    bool *one = wholly ? &met->types[a][v->dtype][v->op] : &met->nranks[a][v->nranks];
    bool *other = wholly ? &met->together[a][v->nranks][form] : &met->forms[a][form];
    bool wanted = both ? !*one && !*other : !*one || !*other;
    if (wanted) *one = *other = true;
    return wanted;
}

/* Goes round by a stride that shares no factor with the number of variants, so that it meets each, far apart. First
 * come those that are new in both ways, so that there are few in all. */
static void add_sample(list_t *list, const list_t *all) {
    met_t met = {0};
    for (int i = 0; i < 2 * all->count; i++) {
        const variant_t *v = &all->variants[(int64_t)i * 1000003 % all->count];
        if (is_wanted(&met, v, i < all->count)) add(list, v);
    }
}

static void list(work_t *work, bool all) {
    for (int i = 0; i < ARCHITECTURES; i++) {
        if (!knows(&work->nvrtc, architectures[i])) {
            printf("sm_%d is left out: this NVRTC does not know it\n", architectures[i]);
            continue;
        }
        list_t variants = list_all(architectures[i]);
        if (all) {
            for (int k = 0; k < variants.count; k++) add(&work->list, &variants.variants[k]);
        } else {
            add_sample(&work->list, &variants);
        }
        free(variants.variants);
    }
}

/* ---- one of them ---- */

static void complain(work_t *work, const variant_t *v, const char *about, const char *text) {
    atomic_fetch_add(&work->bad, 1);
    printf("%s: packets %d%s%s, rank %d of %d, %s %s, sm_%d: %s\n%s\n", oh_device_algorithms[v->kernel.algorithm].name,
           v->kernel.packets, v->kernel.many ? " many" : "", v->whole ? " whole" : "", v->rank, v->nranks,
           onehop_dtype_string(v->dtype), onehop_op_string(v->op), v->architecture, about, text);
}

static int count_of(const char *text, const char *what) {
    int count = 0;
    for (text = strstr(text, what); text != NULL; text = strstr(text + 1, what)) count++;
    return count;
}

/* The assembler speaks of each function that it made: the kernel, and for units that are not whole OH_FUNCTIONs. */
static void judge(work_t *work, const variant_t *v, const char *log) {
    static const char frame[] = "bytes stack frame";
    static const char clean[] = " 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
    const char *used = strstr(log, "Used ");
    const int functions = count_of(log, frame);
    if (functions < 1 || functions > (v->whole ? 1 : 3) || used == NULL) {
        complain(work, v, "expected one function, and two more for units that are not whole", log);
    } else if (strstr(log, "warning") != NULL) {
        complain(work, v, "there are warnings", log);
    } else if (count_of(log, clean) != functions) {
        complain(work, v, "registers are spilled, or a stack is used", log);
    }
    int registers = used == NULL ? 0 : atoi(used + strlen("Used ")), most = atomic_load(&work->registers);
    while (registers > most && !atomic_compare_exchange_weak(&work->registers, &most, registers)) continue;
}

static void compile(work_t *work, const variant_t *v) {
    char *log;
    const char *options[OH_JIT_OPTIONS + 1];
    void *cubin;
    size_t bytes;
    oh_jit_job_t job;
    oh_device_sizes_t sizes = oh_device_sizes_make(v->workspace, v->nranks, MULTIPROCESSORS);
    oh_specialise(v->nranks, v->rank, &sizes, v->dtype, v->op, v->kernel, v->whole, &job);
    for (int i = 0; i < job.noptions; i++) options[i] = job.options[i];
    options[job.noptions] = "--ptxas-options=-v";
    oh_compilation_t what = {job.source, options, job.noptions + 1, v->architecture / 10, v->architecture % 10};
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
    for (int i; (i = atomic_fetch_add(&work->next, 1)) < work->list.count;) {
        compile(work, &work->list.variants[i]);
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
    free(work.list.variants);
    return work.list.count > 0 && atomic_load(&work.bad) == 0 && atomic_load(&work.done) == work.list.count ? 0 : 1;
}
