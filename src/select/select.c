/* SPDX-License-Identifier: Apache-2.0 */
#include "select/select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

const oh_algorithm_info_t oh_algorithms[OH_ALGORITHMS] = {
    [OH_ONE_SHOT] = {"one_shot", "every rank reads all inputs and reduces everything; one hand-over", false},
    [OH_TWO_SHOT] = {"two_shot", "every rank reduces its part and takes the others' results; two hand-overs", false},
    [OH_DIRECT] = {"direct", "two_shot on registered buffers, read and written in place; no copies", true},
};

/* ---- what is forced ---- */

/* `shape` is what follows the name in `text`. */
static onehop_result_t parse_shape(const char *text, const char *shape, oh_forced_t *forced) {
    const char *digits = shape + 1;
    char *end;
    forced->shaped = true;
    forced->chunk_bytes = strtoull(digits, &end, 10);
    forced->stream = strcmp(end, ":stream") == 0;
    bool number = *digits >= '0' && *digits <= '9', store = forced->stream || strcmp(end, ":cached") == 0;
    bool chunk = forced->chunk_bytes % OH_CHUNK_STEP == 0 && forced->chunk_bytes <= OH_CHUNK_MAX &&
                 (forced->chunk_bytes > 0 || forced->algorithm == OH_DIRECT);
    if (number && chunk && store) return ONEHOP_SUCCESS;
    return oh_fail(ONEHOP_INVALID_ARGUMENT,
                   "algorithm is \"%s\": expected NAME:CHUNK_BYTES:stream or NAME:CHUNK_BYTES:cached, with a multiple "
                   "of %d bytes, at most %d (direct: 0, for it cuts nothing)",
                   text, OH_CHUNK_STEP, OH_CHUNK_MAX);
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

/* Rows for what is forced and stands in no table. */
static const oh_host_row_t forced_rows[OH_ALGORITHMS] = {
    [OH_ONE_SHOT] = {0, OH_ONE_SHOT, 64 << 10, false},
    [OH_TWO_SHOT] = {0, OH_TWO_SHOT, 128 << 10, false},
    [OH_DIRECT] = {0, OH_DIRECT, 0, false},
};

/*
 * The last row of the table that fits; NULL if there is none. An algorithm that is forced below the first size that
 * the table has for it gets that first row.
 */
static const oh_host_row_t *find_row(const oh_host_table_t *table, size_t bytes, int forced) {
    const oh_host_row_t *best = NULL;
    for (int i = 0; i < table->count; i++) {
        const oh_host_row_t *row = &table->rows[i];
        if (forced >= 0 && (int)row->algorithm != forced) continue;
        if (best == NULL || row->from_bytes <= bytes) best = row;
    }
    return best;
}

/* `row` is NULL where the table has none for what is forced. */
static void explain(const oh_host_table_t *table, const oh_host_row_t *row, oh_placement_t placement, bool registered,
                    int forced, char *reason) {
    char source[96];
    if (row != NULL) {
        snprintf(source, sizeof source, ": %s from %zu bytes", oh_algorithms[row->algorithm].name, row->from_bytes);
    } else {
        snprintf(source, sizeof source, " has no %s", oh_algorithms[forced].name);
    }
    snprintf(reason, OH_REASON_TEXT, "%s%s (%s ranks, %s buffers)%s",
             forced >= 0 ? "forced by the configuration; " : "", table->name, oh_placement_name(placement),
             registered ? "registered" : "any", source);
}

oh_plan_t oh_select(const oh_question_t *q, const oh_host_tables_t *tables, char *reason) {
    /* A forced algorithm that cannot run gives way to the table: a slow path is allowed, a refusal is not. */
    bool possible =
        q->forced.algorithm >= 0 && (q->registered || !oh_algorithms[q->forced.algorithm].needs_registration);
    int forced = possible ? q->forced.algorithm : -1;
    /* What is forced runs as it does best: one_shot as with ordinary buffers, even if they are registered. */
    bool registered = possible ? oh_algorithms[forced].needs_registration : q->registered;
    const oh_host_table_t *table = &tables->of[q->placement][registered];
    const oh_host_row_t *found = find_row(table, q->bytes, forced), *row = found != NULL ? found : &forced_rows[forced];
    oh_plan_t plan = {.algorithm = row->algorithm, .chunk_bytes = row->chunk_bytes, .stream = row->stream};
    if (possible && q->forced.shaped) {
        plan.chunk_bytes = q->forced.chunk_bytes;
        plan.stream = q->forced.stream;
    }
    if (plan.chunk_bytes > q->chunk_max) plan.chunk_bytes = q->chunk_max;
    if (reason != NULL) explain(table, found, q->placement, registered, forced, reason);
    return plan;
}

size_t oh_select_chunk_max(const oh_forced_t *forced, const oh_host_tables_t *tables) {
    size_t most = forced->chunk_bytes;
    for (int i = 0; i < 2 * OH_PLACEMENTS; i++) {
        const oh_host_table_t *table = &tables->of[i / 2][i % 2];
        for (int k = 0; k < table->count; k++) {
            if (table->rows[k].chunk_bytes > most) most = table->rows[k].chunk_bytes;
        }
    }
    return most;
}
