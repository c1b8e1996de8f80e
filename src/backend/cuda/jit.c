/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/jit.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cache.h"
#include "backend/cuda/compile.h"
#include "backend/cuda/sources.h"
#include "base/clock.h"
#include "driver/nvrtc.h"

enum {
    KEY_PARTS = 256,
    THREADS = 64,
    STACK = 16 << 20 /* the compiler recurses, and the caller's limit may be small */
};

struct oh_jit {
    oh_cache_t cache;
    oh_nvrtc_t nvrtc; /* zeros until something is to be compiled */
    int major, minor;
    char *nvrtc_file; /* "": wherever it is found */
};

/* The jobs that are left, and who takes the next. */
typedef struct crew {
    oh_jit_t *jit;
    oh_jit_job_t *jobs;
    int count;
    atomic_int next;
} crew_t;

onehop_result_t oh_jit_open(const char *cache_directory, const char *nvrtc, int major, int minor, oh_jit_t **out) {
    oh_jit_t *jit = calloc(1, sizeof *jit);
    char *file = strdup(nvrtc == NULL ? "" : nvrtc);
    if (jit == NULL || file == NULL) {
        free(jit);
        free(file);
        return oh_fail(ONEHOP_OUT_OF_MEMORY, "no memory to compile kernels");
    }
    jit->major = major;
    jit->minor = minor;
    jit->nvrtc_file = file;
    oh_cache_open(&jit->cache, cache_directory);
    *out = jit;
    return ONEHOP_SUCCESS;
}

void oh_jit_close(oh_jit_t *jit) {
    if (jit == NULL) return;
    oh_cache_close(&jit->cache);
    oh_nvrtc_close(&jit->nvrtc);
    free(jit->nvrtc_file);
    free(jit);
}

/*
 * All that decides what the machine code does. The compiler's version is not part of it, as asking for it means opening
 * the compiler, which a warm start must not need: any NVRTC that Onehop accepts makes right code of the same source for
 * the same GPU, and the entry says which one made it. Who names a compiler gets that one's code.
 */
static oh_cache_key_t key_of(const oh_jit_t *jit, const oh_jit_job_t *job) {
    const char *parts[KEY_PARTS], *const *common;
    char architecture[32];
    size_t count = 0;
    snprintf(architecture, sizeof architecture, "sm_%d%d", jit->major, jit->minor);
    parts[count++] = onehop_version();
    parts[count++] = architecture;
    parts[count++] = jit->nvrtc_file;
    parts[count++] = job->source;
    for (int i = 0; i < job->noptions; i++) parts[count++] = job->options[i];
    parts[count++] = "";
    int ncommon = oh_compile_options(&common);
    for (int i = 0; i < ncommon; i++) parts[count++] = common[i];
    for (int i = 0; i < oh_nsources; i++) {
        parts[count++] = oh_sources[i].name;
        parts[count++] = oh_sources[i].text;
    }
    return oh_cache_key(parts, count);
}

static onehop_result_t compile(const oh_jit_t *jit, oh_jit_job_t *job) {
    const char *options[OH_JIT_OPTIONS];
    for (int i = 0; i < job->noptions; i++) options[i] = job->options[i];
    oh_compilation_t what = {job->source, options, job->noptions, jit->major, jit->minor};
    char *log;
    OH_TRY(oh_compile(&jit->nvrtc, &what, &job->cubin, &job->bytes, &log));
    free(log);
    oh_cache_key_t key = key_of(jit, job);
    oh_cache_store(&jit->cache, &key, job->cubin, job->bytes, jit->nvrtc.version);
    return ONEHOP_SUCCESS;
}

static void settle(oh_jit_job_t *job, onehop_result_t result) {
    job->result = result;
    if (result != ONEHOP_SUCCESS) snprintf(job->error, sizeof job->error, "%s", onehop_last_error());
}

static double ms_since(int64_t start) { return (double)(oh_now_ns() - start) / 1e6; }

static bool is_open(const oh_jit_job_t *job) { return job->cubin == NULL && job->result == ONEHOP_SUCCESS; }

static void *work(void *context) {
    crew_t *crew = context;
    for (int i; (i = atomic_fetch_add(&crew->next, 1)) < crew->count;) {
        oh_jit_job_t *job = &crew->jobs[i];
        if (!is_open(job)) continue;
        int64_t start = oh_now_ns();
        settle(job, compile(crew->jit, job));
        job->ms = ms_since(start);
    }
    return NULL;
}

static int processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* As many threads as can be had. They take no signals: the caller's handlers expect the caller's threads. */
static int hire(crew_t *crew, pthread_t *threads, int wanted) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_setstacksize(&attributes, STACK);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int hired = 0;
    while (hired < wanted && pthread_create(&threads[hired], &attributes, work, crew) == 0) hired++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return hired;
}

static void compile_all(oh_jit_t *jit, oh_jit_job_t *jobs, int count, int open) {
    crew_t crew = {.jit = jit, .jobs = jobs, .count = count};
    pthread_t threads[THREADS];
    int wanted = processors();
    if (wanted > open) wanted = open;
    if (wanted > THREADS) wanted = THREADS;
    int hired = hire(&crew, threads, wanted);
    if (hired == 0) work(&crew);
    for (int i = 0; i < hired; i++) pthread_join(threads[i], NULL);
}

/* Prepares a job, and looks for it on the disk; true if it is still to be compiled. */
static bool look_up(const oh_jit_t *jit, oh_jit_job_t *job) {
    int64_t start = oh_now_ns();
    job->cubin = NULL;
    job->bytes = 0;
    job->result = ONEHOP_SUCCESS;
    job->error[0] = '\0';
    if (job->noptions < 0 || job->noptions > OH_JIT_OPTIONS) {
        settle(job, oh_fail(ONEHOP_COMPILE_ERROR, "%s has %d options: expected at most %d", job->source, job->noptions,
                            OH_JIT_OPTIONS));
        return false;
    }
    oh_cache_key_t key = key_of(jit, job);
    int compiler;
    job->cached = oh_cache_load(&jit->cache, &key, &job->cubin, &job->bytes, &compiler);
    job->ms = ms_since(start);
    return !job->cached;
}

onehop_result_t oh_jit_run(oh_jit_t *jit, oh_jit_job_t *jobs, int count) {
    int open = 0;
    for (int i = 0; i < count; i++) open += look_up(jit, &jobs[i]);
    if (open > 0 && jit->nvrtc.library == NULL) {
        onehop_result_t found = oh_nvrtc_open(jit->nvrtc_file, &jit->nvrtc);
        for (int i = 0; found != ONEHOP_SUCCESS && i < count; i++) {
            if (is_open(&jobs[i])) settle(&jobs[i], found);
        }
    }
    if (open > 0 && jit->nvrtc.library != NULL) compile_all(jit, jobs, count, open);
    for (int i = 0; i < count; i++) {
        if (jobs[i].result != ONEHOP_SUCCESS) return oh_fail(jobs[i].result, "%s", jobs[i].error);
    }
    return ONEHOP_SUCCESS;
}
