/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/agree.h"

#include <inttypes.h>
#include <stdio.h>

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
