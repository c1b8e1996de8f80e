/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/agree.h"

#include <stdint.h>
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
