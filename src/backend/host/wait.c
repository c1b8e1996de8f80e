/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a peer: spin, then yield, then sleep; never past the deadline, a death or an abort. */
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backend/host/host.h"
#include "base/clock.h"

enum {
    SPINS = 512,              /* looks before giving the processor away, when every rank has one */
    SPINS_OVERSUBSCRIBED = 5, /* when another rank may need this one */
    YIELDS_PER_CLOCK = 16,
};

static const int64_t yield_ns = 1000000;  /* how long to yield before sleeping: a peer may be at its own work */
static const int64_t sleep_ns = 10000000; /* the longest sleep: how late a death or an abort is noticed */

static bool reached(const _Atomic uint64_t *word, uint64_t value) {
    return (int64_t)(atomic_load_explicit(word, memory_order_acquire) - value) >= 0;
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

void oh_host_publish(oh_host_t *host, _Atomic uint64_t *word, uint64_t value) {
    oh_segment_t *mine = host->segment[host->rank];
    atomic_store_explicit(word, value, memory_order_release);
    /*
     * Without a fence this look may miss a rank that is just going to sleep. It then sleeps its sleep_ns out, which is
     * rare and bounded; a fence would cost every operation.
     */
    if (atomic_load_explicit(&mine->sleepers, memory_order_relaxed) != 0) {
        atomic_fetch_add_explicit(&mine->bell, 1, memory_order_release);
        futex(&mine->bell, FUTEX_WAKE, INT32_MAX, NULL);
    }
}

/* Until the bell of `rank` rings, or `ns` have passed. */
static void sleep_until_bell(oh_segment_t *segment, const _Atomic uint64_t *word, uint64_t value, int64_t ns) {
    atomic_fetch_add_explicit(&segment->sleepers, 1, memory_order_seq_cst);
    uint32_t bell = atomic_load_explicit(&segment->bell, memory_order_acquire);
    if (!reached(word, value)) {
        struct timespec timeout = {.tv_sec = 0, .tv_nsec = (long)ns};
        futex(&segment->bell, FUTEX_WAIT, bell, &timeout);
    }
    atomic_fetch_sub_explicit(&segment->sleepers, 1, memory_order_relaxed);
}

/* "operation 7 (all_reduce of 1024 float32, sum)" */
static void describe_operation(const oh_host_t *host, char text[96]) {
    if (host->request == NULL) {
        snprintf(text, 96, "the operation after %" PRIu64, host->operation);
    } else {
        snprintf(text, 96, "operation %" PRIu64 " (all_reduce of %zu %s, %s)", host->operation, host->request->count,
                 onehop_dtype_string(host->request->dtype), onehop_op_string(host->request->op));
    }
}

/* Why `rank` will not come any more; ONEHOP_SUCCESS while it still may. */
static onehop_result_t find_reason(oh_host_t *host, int rank, bool left, bool late) {
    char when[96];
    describe_operation(host, when);
    int pid = (int)oh_bootstrap_pid(host->bootstrap, rank);
    if (left) {
        return oh_fault_raise(&host->faults, ONEHOP_PEER_LOST,
                              "rank %d (pid %d) has destroyed its communicator; rank %d still waits for it in %s", rank,
                              pid, host->rank, when);
    }
    OH_TRY(oh_fault_find_lost(&host->faults, host->bootstrap, when));
    if (!late) return ONEHOP_SUCCESS;
    return oh_fault_raise(&host->faults, ONEHOP_TIMEOUT,
                          "rank %d (pid %d) is late: rank %d has waited %d ms for it in %s", rank, pid, host->rank,
                          host->config.timeout_ms, when);
}

static onehop_result_t wait_long(oh_host_t *host, int rank, const _Atomic uint64_t *word, uint64_t value) {
    const int64_t begin = oh_now_ns(), limit = (int64_t)host->config.timeout_ms * 1000000;
    for (int64_t waited = 0;; waited = oh_now_ns() - begin) {
        if (oh_fault_present(&host->faults)) return oh_fault_get(&host->faults);
        if (waited < yield_ns) {
            for (int i = 0; i < YIELDS_PER_CLOCK; i++) {
                sched_yield();
                if (reached(word, value)) return ONEHOP_SUCCESS;
            }
            continue;
        }
        /* A peer publishes before it leaves: look whether it has left first, then for the word. */
        bool left = oh_fault_has_left(&host->faults, rank);
        if (reached(word, value)) return ONEHOP_SUCCESS;
        OH_TRY(find_reason(host, rank, left, waited >= limit));
        int64_t rest = limit - waited;
        sleep_until_bell(host->segment[rank], word, value, rest < sleep_ns ? rest : sleep_ns);
        if (reached(word, value)) return ONEHOP_SUCCESS;
    }
}

onehop_result_t oh_host_wait(oh_host_t *host, int rank, const _Atomic uint64_t *word, uint64_t value) {
    int spins = host->topology.placement == OH_OVERSUBSCRIBED ? SPINS_OVERSUBSCRIBED : SPINS;
    for (int i = 0; i < spins; i++) {
        if (reached(word, value)) return ONEHOP_SUCCESS;
        oh_cpu_relax();
    }
    return wait_long(host, rank, word, value);
}

onehop_result_t oh_host_wait_all(oh_host_t *host, size_t offset, uint64_t value) {
    for (int i = 1; i < host->nranks; i++) {
        /* Beginning with the next rank, so that the ranks do not all fetch the same line at once. */
        int r = host->rank + i < host->nranks ? host->rank + i : host->rank + i - host->nranks;
        OH_TRY(oh_host_wait(host, r, (const _Atomic uint64_t *)(const void *)(host->arena.base[r] + offset), value));
    }
    return ONEHOP_SUCCESS;
}
