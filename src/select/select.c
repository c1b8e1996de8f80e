/* SPDX-License-Identifier: Apache-2.0 */
#include "select/select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "select/table.h"

const oh_algorithm_info_t oh_algorithms[OH_ALGORITHMS] = {
    [OH_ONE_SHOT] = {"one_shot", "every rank reads all inputs and reduces everything; one hand-over", false},
    [OH_TWO_SHOT] = {"two_shot", "every rank reduces its part and takes the others' results; two hand-overs", false},
    [OH_DIRECT] = {"direct", "two_shot on registered buffers, read and written in place; no copies", true},
};

/* ---- what is forced ---- */

enum { CHUNK_STEP = 4096, CHUNK_MAX = 64 << 20 };

/* `shape` is what follows the name in `text`. */
static onehop_result_t parse_shape(const char *text, const char *shape, oh_forced_t *forced) {
    const char *digits = shape + 1;
    char *end;
    forced->shaped = true;
    forced->chunk_bytes = strtoull(digits, &end, 10);
    forced->stream = strcmp(end, ":stream") == 0;
    bool number = *digits >= '0' && *digits <= '9', store = forced->stream || strcmp(end, ":cached") == 0;
    bool chunk = forced->chunk_bytes % CHUNK_STEP == 0 && forced->chunk_bytes <= CHUNK_MAX &&
                 (forced->chunk_bytes > 0 || forced->algorithm == OH_DIRECT);
    if (number && chunk && store) return ONEHOP_SUCCESS;
    return oh_fail(ONEHOP_INVALID_ARGUMENT,
                   "algorithm is \"%s\": expected NAME:CHUNK_BYTES:stream or NAME:CHUNK_BYTES:cached, with a multiple "
                   "of %d bytes, at most %d (direct: 0, for it cuts nothing)",
                   text, CHUNK_STEP, CHUNK_MAX);
}

onehop_result_t oh_forced_parse(const char *text, oh_forced_t *forced) {
    *forced = (oh_forced_t){.algorithm = -1};
    if (strcmp(text, "auto") == 0) return ONEHOP_SUCCESS;
    size_t length = strcspn(text, ":");
    for (int i = 0; i < OH_ALGORITHMS; i++) {
        const char *name = oh_algorithms[i].name;
        if (strlen(name) != length || strncmp(name, text, length) != 0) continue;
        forced->algorithm = i;
        return text[length] == '\0' ? ONEHOP_SUCCESS : parse_shape(text, text + length, forced);
    }
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "algorithm is \"%s\": expected auto, %s, %s or %s", text,
                   oh_algorithms[OH_ONE_SHOT].name, oh_algorithms[OH_TWO_SHOT].name, oh_algorithms[OH_DIRECT].name);
}

/* ---- which row ---- */

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
    const oh_forced_t *forced = &q->forced;
    bool possible = forced->algorithm >= 0 && (q->registered || !oh_algorithms[forced->algorithm].needs_registration);
    const oh_table_row_t *row = find_row(q, possible ? forced->algorithm : -1);
    oh_plan_t plan = {.algorithm = row->algorithm, .chunk_bytes = row->chunk_bytes, .stream = row->stream};
    if (possible && forced->shaped) {
        plan.chunk_bytes = forced->chunk_bytes;
        plan.stream = forced->stream;
    }
    if (plan.chunk_bytes > q->chunk_max) plan.chunk_bytes = q->chunk_max;
    if (reason != NULL) {
        snprintf(reason, OH_REASON_TEXT, "%stable for %s ranks: %s from %zu bytes, %s",
                 possible ? "forced by the configuration; " : "", oh_placement_name(q->placement),
                 oh_algorithms[row->algorithm].name, row->from_bytes, row->registered ? "registered" : "any buffers");
    }
    return plan;
}

size_t oh_select_chunk_max(const oh_forced_t *forced) {
    size_t most = forced->chunk_bytes;
    for (size_t i = 0; i < oh_host_table_rows; i++) {
        if (oh_host_table[i].chunk_bytes > most) most = oh_host_table[i].chunk_bytes;
    }
    return most;
}
