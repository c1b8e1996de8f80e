/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/agree.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"

typedef struct outcome {
    int32_t result;
    char error[252];
} outcome_t;

onehop_result_t oh_agree(oh_bootstrap_t *bootstrap, const char *what, onehop_result_t mine,
                         const oh_patience_t *patience, onehop_result_t *verdict) {
    outcome_t own = {.result = (int32_t)mine}, all[ONEHOP_MAX_RANKS];
    if (mine != ONEHOP_SUCCESS) snprintf(own.error, sizeof own.error, "%.251s", onehop_last_error());
    OH_TRY(oh_bootstrap_allgather(bootstrap, what, &own, all, sizeof own, patience));
    *verdict = ONEHOP_SUCCESS;
    for (int r = 0; r < oh_bootstrap_nranks(bootstrap) && *verdict == ONEHOP_SUCCESS; r++) {
        if (all[r].result == ONEHOP_SUCCESS) continue;
        *verdict = oh_fail((onehop_result_t)all[r].result, "rank %d: %.251s", r, all[r].error);
    }
    return ONEHOP_SUCCESS;
}

/* A file in memory, for what is too long for an all-gather. */
static onehop_result_t write_memory(const char *what, const void *data, size_t bytes, int *fd) {
    *fd = memfd_create(what, MFD_CLOEXEC);
    if (*fd < 0) return oh_fail_errno("cannot make shared memory for %s", what);
    ssize_t written = write(*fd, data, bytes);
    if (written == (ssize_t)bytes) return ONEHOP_SUCCESS;
    return written < 0 ? oh_fail_errno("cannot write to shared memory for %s", what)
                       : oh_fail(ONEHOP_OUT_OF_MEMORY, "cannot write all of %s to shared memory", what);
}

static onehop_result_t read_memory(const char *what, int fd, void *data, size_t bytes) {
    ssize_t got = pread(fd, data, bytes, 0);
    close(fd);
    if (got == (ssize_t)bytes) return ONEHOP_SUCCESS;
    return oh_fail(ONEHOP_SYSTEM_ERROR, "cannot read %s from rank 0: %zd bytes, expected %zu", what, got, bytes);
}

onehop_result_t oh_agree_with_first(oh_bootstrap_t *bootstrap, const char *what, onehop_result_t mine, void *data,
                                    size_t bytes, const oh_patience_t *patience) {
    bool first = oh_bootstrap_rank(bootstrap) == 0;
    int fd = -1, fds[ONEHOP_MAX_RANKS];
    if (first && mine == ONEHOP_SUCCESS) mine = write_memory(what, data, bytes, &fd);
    onehop_result_t verdict, result = oh_agree(bootstrap, what, mine, patience, &verdict);
    if (result == ONEHOP_SUCCESS) result = verdict;
    if (result == ONEHOP_SUCCESS) result = oh_bootstrap_exchange_fd(bootstrap, what, fd, fds, patience);
    if (fd >= 0) close(fd);
    return first || result != ONEHOP_SUCCESS ? result : read_memory(what, fds[0], data, bytes);
}

onehop_result_t oh_agree_to_deregister(oh_bootstrap_t *bootstrap, const void *ptr, int64_t number,
                                       const oh_patience_t *patience, bool *broken) {
    int64_t all[ONEHOP_MAX_RANKS];
    *broken = true;
    OH_TRY(oh_bootstrap_allgather(bootstrap, "deregister", &number, all, sizeof number, patience));
    *broken = false;
    for (int r = 0; r < oh_bootstrap_nranks(bootstrap); r++) {
        if (all[r] == OH_NO_REGISTRATION) {
            return oh_fail(ONEHOP_INVALID_ARGUMENT, "rank %d: ptr is not that of a registered buffer (here: ptr %p)", r,
                           ptr);
        }
        if (all[r] != all[0]) {
            return oh_fail(ONEHOP_INVALID_ARGUMENT,
                           "ranks deregister different buffers: rank 0 its registration %" PRId64
                           ", rank %d its %" PRId64,
                           all[0], r, all[r]);
        }
    }
    return ONEHOP_SUCCESS;
}
