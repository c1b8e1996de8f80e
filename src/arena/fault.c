/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

onehop_result_t oh_fault_get(oh_faults_t *faults) {
    uint32_t poison = atomic_load_explicit(&faults->of[faults->rank]->poison, memory_order_acquire);
    if (poison == 0) return ONEHOP_SUCCESS;
    const oh_fault_t *record = faults->of[poison - 1];
    return oh_fail((onehop_result_t)record->code, "%s", record->text);
}

onehop_result_t oh_fault_raise(oh_faults_t *faults, onehop_result_t code, const char *format, ...) {
    oh_fault_t *mine = faults->of[faults->rank];
    if (atomic_exchange_explicit(&mine->claimed, 1, memory_order_acq_rel) == 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(mine->text, sizeof mine->text, format, arguments);
        va_end(arguments);
        mine->code = (int32_t)code;
        atomic_store_explicit(&mine->ready, 1, memory_order_release);
    } else {
        /* Another thread of this rank (an abort) is writing a few bytes. */
        while (atomic_load_explicit(&mine->ready, memory_order_acquire) == 0) {
        }
    }
    for (int r = 0; r < faults->nranks; r++) {
        uint32_t none = 0;
        atomic_compare_exchange_strong_explicit(&faults->of[r]->poison, &none, (uint32_t)faults->rank + 1,
                                                memory_order_acq_rel, memory_order_acquire);
    }
    return oh_fault_get(faults);
}

onehop_result_t oh_fault_settle(oh_faults_t *faults, onehop_result_t result, bool broken) {
    if (result == ONEHOP_SUCCESS || !broken) return result;
    return oh_fault_raise(faults, result, "%s", onehop_last_error());
}

onehop_result_t oh_fault_interrupt(void *faults) { return oh_fault_get(faults); }

onehop_result_t oh_fault_find_lost(oh_faults_t *faults, oh_bootstrap_t *bootstrap, const char *when) {
    bool gone[ONEHOP_MAX_RANKS] = {false};
    if (oh_bootstrap_gone(bootstrap, gone) == 0) return ONEHOP_SUCCESS;
    for (int r = 0; r < faults->nranks; r++) {
        /* A rank that destroyed its communicator in good order may end: it has done its part. */
        if (!gone[r] || oh_fault_has_left(faults, r)) continue;
        return oh_fault_raise(faults, ONEHOP_PEER_LOST,
                              "rank %d (pid %d) is lost: its process has ended; noticed by rank %d in %s", r,
                              (int)oh_bootstrap_pid(bootstrap, r), faults->rank, when);
    }
    return ONEHOP_SUCCESS;
}

void oh_fault_abort(oh_faults_t *faults) {
    oh_fault_raise(faults, ONEHOP_ABORTED, "rank %d (pid %d) called onehop_comm_abort", faults->rank, (int)getpid());
}

void oh_fault_leave(oh_faults_t *faults) {
    atomic_store_explicit(&faults->of[faults->rank]->left, 1, memory_order_release);
}

bool oh_fault_has_left(const oh_faults_t *faults, int rank) {
    return atomic_load_explicit(&faults->of[rank]->left, memory_order_acquire) != 0;
}
