/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include "backend/cuda/cuda.h"

enum { LOOK_EVERY_MS = 50 };

/* The kernel's report is whole once `ready` is set, which is stored last and fenced. */
static const oh_report_t *find_report(const oh_gpu_backend_t *gpu) {
    const oh_report_t *report = (const oh_report_t *)(const void *)(gpu->control.base[gpu->rank] + OH_REPORT_AT);
    const volatile unsigned int *ready = &report->ready;
    if (*ready == 0) return NULL;
    atomic_thread_fence(memory_order_acquire);
    return report;
}

static onehop_result_t raise_mismatch(oh_gpu_backend_t *gpu, const oh_report_t *report) {
    bool first = gpu->rank < (int)report->rank;
    const oh_greeting_t *low = first ? &report->mine : &report->theirs, *high = first ? &report->theirs : &report->mine;
    return oh_fault_raise(
        &gpu->faults, ONEHOP_MISMATCH,
        "ranks disagree in operation %llu: rank %d called all_reduce with count %llu, dtype %s, op %s; "
        "rank %d with count %llu, dtype %s, op %s",
        report->operation, first ? gpu->rank : (int)report->rank, low->count,
        onehop_dtype_string((onehop_dtype_t)(low->what & 0xff)), onehop_op_string((onehop_op_t)(low->what >> 8)),
        first ? (int)report->rank : gpu->rank, high->count, onehop_dtype_string((onehop_dtype_t)(high->what & 0xff)),
        onehop_op_string((onehop_op_t)(high->what >> 8)));
}

static onehop_result_t raise_report(oh_gpu_backend_t *gpu, const oh_report_t *report) {
    int late = (int)report->rank, pid = (int)oh_bootstrap_pid(gpu->bootstrap, late);
    if (report->kind == OH_REPORT_MISMATCH) return raise_mismatch(gpu, report);
    if (oh_fault_has_left(&gpu->faults, late)) {
        return oh_fault_raise(
            &gpu->faults, ONEHOP_PEER_LOST,
            "rank %d (pid %d) has destroyed its communicator; rank %d still waits for it in operation "
            "%llu",
            late, pid, gpu->rank, report->operation);
    }
    return oh_fault_raise(
        &gpu->faults, ONEHOP_TIMEOUT,
        "rank %d (pid %d) is late: rank %d has waited %d ms for it in operation %llu (on the GPU, %s)", late, pid,
        gpu->rank, gpu->config.timeout_ms, report->operation,
        report->kind == OH_REPORT_BARRIER ? "at a barrier" : "for its data");
}

onehop_result_t oh_gpu_look(oh_gpu_backend_t *gpu, const char *when) {
    if (oh_fault_present(&gpu->faults)) return oh_fault_get(&gpu->faults);
    OH_TRY(oh_fault_find_lost(&gpu->faults, gpu->bootstrap, when));
    const oh_report_t *report = find_report(gpu);
    return report == NULL ? ONEHOP_SUCCESS : raise_report(gpu, report);
}

/* Until told to stop; the wait is on the word that tells it, with a limit. */
static void *watch(void *argument) {
    oh_gpu_backend_t *gpu = argument;
    pthread_mutex_lock(&gpu->mutex);
    while (!gpu->stop) {
        pthread_mutex_unlock(&gpu->mutex);
        oh_gpu_look(gpu, "the background");
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOOK_EVERY_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&gpu->mutex);
        if (!gpu->stop) pthread_cond_timedwait(&gpu->wake, &gpu->mutex, &until);
    }
    pthread_mutex_unlock(&gpu->mutex);
    return NULL;
}

onehop_result_t oh_gpu_watch_begin(oh_gpu_backend_t *gpu) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&gpu->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&gpu->mutex, NULL);
    int error = pthread_create(&gpu->watcher, NULL, watch, gpu);
    if (error != 0) {
        errno = error;
        return oh_fail_errno("cannot start the thread that watches for faults");
    }
    gpu->watching = true;
    return ONEHOP_SUCCESS;
}

void oh_gpu_watch_end(oh_gpu_backend_t *gpu) {
    if (!gpu->watching) return;
    pthread_mutex_lock(&gpu->mutex);
    gpu->stop = true;
    pthread_cond_signal(&gpu->wake);
    pthread_mutex_unlock(&gpu->mutex);
    pthread_join(gpu->watcher, NULL);
    pthread_cond_destroy(&gpu->wake);
    pthread_mutex_destroy(&gpu->mutex);
    gpu->watching = false;
}
