/* SPDX-License-Identifier: Apache-2.0 */
#include "select/tuning.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "select/built_in.h"
#include "select/model.h"

/* ---- which table of a file ---- */

const oh_host_table_t *oh_tuning_find_hosts(const oh_tuning_file_t *file, int nranks, oh_placement_t placement,
                                            bool registered) {
    for (int i = 0; i < file->nhosts; i++) {
        const oh_tuned_hosts_t *t = &file->hosts[i];
        if (t->nranks == nranks && t->placement == placement && t->registered == registered) return &t->table;
    }
    return NULL;
}

/*
 * A table for more blocks would take several steps where another shape takes one, and one for fewer leaves blocks idle:
 * so the bound is the same or there is none. A type without a table takes that of the first type that has one.
 */
const oh_device_table_t *oh_tuning_find_gpus(const oh_tuning_file_t *file, const oh_gpu_place_t *place,
                                             onehop_dtype_t dtype) {
    const oh_device_table_t *first = NULL;
    for (int i = 0; i < file->ngpus && place->gpu != NULL; i++) {
        const oh_tuned_gpus_t *t = &file->gpus[i];
        if (strcmp(t->gpu, place->gpu) != 0 || t->links != place->links || t->nranks != place->nranks) continue;
        if (t->max_blocks != place->max_blocks) continue;
        if (t->dtype == dtype) return &t->table;
        if (first == NULL) first = &t->table;
    }
    return first;
}

/* ---- what is in force ---- */

/* Where there is no file, it has no tables. *refused: one in the usual place; the last error says why. */
static onehop_result_t read_file(const oh_config_t *config, oh_tuning_file_t *file, bool *refused) {
    *file = (oh_tuning_file_t){0};
    *refused = false;
    if (config->tuning == OH_TUNING_BUILT_IN || config->tuning == OH_TUNING_MODEL) return ONEHOP_SUCCESS;
    onehop_result_t result = oh_tuning_file_read(config->tuning_file, file);
    if (result != ONEHOP_INVALID_ARGUMENT || config->tuning == OH_TUNING_NAMED) return result;
    *refused = file->found;
    return ONEHOP_SUCCESS;
}

/* `text` holds what is in force without the file. */
static void tell(const oh_config_t *config, const oh_tuning_file_t *file, bool used, bool refused,
                 char text[OH_TUNING_TEXT]) {
    const size_t length = strlen(text), room = OH_TUNING_TEXT - length;
    if (used) {
        snprintf(text, OH_TUNING_TEXT, "%s, made %.*s on %s", config->tuning_file, (int)strcspn(file->date, "T"),
                 file->date, file->host);
    } else if (refused) {
        snprintf(text + length, room, "; refused: %s", onehop_last_error());
    } else if (file->found) {
        snprintf(text + length, room, "; there is none for these ranks in %s", config->tuning_file);
    }
}

onehop_result_t oh_tuning_for_hosts(const oh_config_t *config, oh_host_tuning_t *out) {
    oh_tuning_file_t file;
    bool refused, used = false;
    memset(out, 0, sizeof *out);
    OH_TRY(read_file(config, &file, &refused));
    snprintf(out->text, sizeof out->text, "built-in table");
    oh_built_in_hosts(&out->tables);
    for (int i = 0; i < 2 * OH_PLACEMENTS; i++) {
        const oh_placement_t placement = (oh_placement_t)(i / 2);
        const oh_host_table_t *table = oh_tuning_find_hosts(&file, config->nranks, placement, i % 2 == 1);
        if (table != NULL) out->tables.of[placement][i % 2] = *table;
        used = used || table != NULL;
    }
    tell(config, &file, used, refused, out->text);
    oh_tuning_file_free(&file);
    return ONEHOP_SUCCESS;
}

/* The table where no file has one, and what to say of it. */
static void find_without_file(const oh_config_t *config, const oh_gpu_place_t *place, oh_device_table_t *out,
                              char text[OH_TUNING_TEXT]) {
    oh_device_table_t built_in;
    oh_model_gpus(place->nranks, place->blocks, place->links, out);
    if (config->tuning == OH_TUNING_MODEL) {
        snprintf(text, OH_TUNING_TEXT, "model: the configuration asks for it");
    } else if (place->gpu == NULL) {
        snprintf(text, OH_TUNING_TEXT, "model: the GPUs differ");
    } else if (!oh_built_in_gpus(place->gpu, place->links, place->nranks, &built_in)) {
        snprintf(text, OH_TUNING_TEXT, "model: there is no table for %s over %s", place->gpu,
                 oh_links_name(place->links));
    } else if (built_in.rows[0].blocks > place->blocks) {
        snprintf(text, OH_TUNING_TEXT, "model: the %s is for %d blocks, not %d", built_in.name, built_in.rows[0].blocks,
                 place->blocks);
    } else {
        *out = built_in;
        snprintf(text, OH_TUNING_TEXT, "%s", built_in.name);
    }
}

onehop_result_t oh_tuning_for_gpus(const oh_config_t *config, const oh_gpu_place_t *place, oh_device_tuning_t *out) {
    oh_tuning_file_t file;
    oh_device_table_t rest;
    bool refused, used = false;
    memset(out, 0, sizeof *out);
    OH_TRY(read_file(config, &file, &refused));
    find_without_file(config, place, &rest, out->text);
    for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
        const oh_device_table_t *table = oh_tuning_find_gpus(&file, place, (onehop_dtype_t)dtype);
        out->tables[dtype] = table != NULL ? *table : rest;
        used = used || table != NULL;
    }
    tell(config, &file, used, refused, out->text);
    oh_tuning_file_free(&file);
    return ONEHOP_SUCCESS;
}
