/* SPDX-License-Identifier: Apache-2.0 */
#include "select/select.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "select/table.h"

const oh_algorithm_info_t oh_algorithms[OH_ALGORITHMS] = {
    [OH_ONE_SHOT] = {"one_shot", "every rank reads all inputs and reduces everything; one hand-over", false},
    [OH_TWO_SHOT] = {"two_shot", "every rank reduces its part and takes the others' results; two hand-overs", false},
    [OH_DIRECT] = {"direct", "two_shot on registered buffers, read and written in place; no copies", true},
};

onehop_result_t oh_select_forced(const char *name, int *forced) {
    *forced = -1;
    if (strcmp(name, "auto") == 0) return ONEHOP_SUCCESS;
    for (int i = 0; i < OH_ALGORITHMS; i++) {
        if (strcmp(name, oh_algorithms[i].name) == 0) {
            *forced = i;
            return ONEHOP_SUCCESS;
        }
    }
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "algorithm is \"%s\": expected auto, %s, %s or %s", name,
                   oh_algorithms[OH_ONE_SHOT].name, oh_algorithms[OH_TWO_SHOT].name, oh_algorithms[OH_DIRECT].name);
}

/*
 * The last row that fits. Rows for registered buffers follow the others, so that they win where they fit. An algorithm
 * that is forced below the first size that the table has for it gets that first row.
 */
static const oh_table_row_t *find_row(const oh_question_t *q, int forced) {
    const oh_table_row_t *best = NULL;
    for (size_t i = 0; i < oh_host_table_rows; i++) {
        const oh_table_row_t *row = &oh_host_table[i];
        if (row->placement != q->placement || (row->registered && !q->registered)) continue;
        if (forced >= 0 && (int)row->algorithm != forced) continue;
        if (best == NULL || row->from_bytes <= q->bytes) best = row;
    }
    return best;
}

oh_plan_t oh_select(const oh_question_t *q, char *reason) {
    /* A forced algorithm that cannot run gives way to the table: a slow path is allowed, a refusal is not. */
    bool possible = q->forced >= 0 && (q->registered || !oh_algorithms[q->forced].needs_registration);
    const oh_table_row_t *row = find_row(q, possible ? q->forced : -1);
    size_t chunk = row->chunk_bytes < q->chunk_max ? row->chunk_bytes : q->chunk_max;
    if (reason != NULL) {
        snprintf(reason, OH_REASON_TEXT, "%stable for %s ranks: %s from %zu bytes, %s",
                 possible ? "forced by the configuration; " : "", oh_placement_name(q->placement),
                 oh_algorithms[row->algorithm].name, row->from_bytes, row->registered ? "registered" : "any buffers");
    }
    return (oh_plan_t){.algorithm = row->algorithm, .chunk_bytes = chunk, .stream = row->stream};
}

size_t oh_select_chunk_max(void) {
    size_t most = 0;
    for (size_t i = 0; i < oh_host_table_rows; i++) {
        if (oh_host_table[i].chunk_bytes > most) most = oh_host_table[i].chunk_bytes;
    }
    return most;
}
