/* SPDX-License-Identifier: Apache-2.0 */
/* The file of tuning tables, of the schema "onehop-tuning-1". */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commit.h"
#include "json.h"
#include "machine.h"
#include "output.h"
#include "say.h"
#include "tune.h"

/* ---- where ---- */

/* As the XDG Base Directory Specification has it, which wants relative paths to be ignored. */
static bool usual_place(char path[TUNE_PATH]) {
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int length = TUNE_PATH;
    if (xdg != NULL && xdg[0] == '/') {
        length = snprintf(path, TUNE_PATH, "%s/onehop/tuning.json", xdg);
    } else if (home != NULL && home[0] == '/') {
        length = snprintf(path, TUNE_PATH, "%s/.config/onehop/tuning.json", home);
    }
    return length < TUNE_PATH;
}

bool tune_file_place(char path[TUNE_PATH]) {
    const char *named = getenv("ONEHOP_TUNING");
    if (named == NULL || named[0] == '\0' || strcmp(named, "built-in") == 0 || strcmp(named, "model") == 0)
        return usual_place(path);
    return snprintf(path, TUNE_PATH, "%s", named) < TUNE_PATH;
}

bool tune_file_make_folders(const char *path) {
    char folder[TUNE_PATH];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0777) != 0 && errno != EEXIST) return false;
        *slash = '/';
    }
    return true;
}

/* ---- what is there ---- */

static int alone(void *ctx, const void *mine, void *all, size_t bytes_each) {
    (void)ctx;
    memcpy(all, mine, bytes_each);
    return 0;
}

/* The library says it, to one rank that meets nobody. */
bool tune_file_is_good(const char *path, char why[TUNE_WHY]) {
    struct stat status;
    why[0] = '\0';
    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode)) return false;
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    onehop_comm_t *comm;
    config.rank = 0;
    config.nranks = 1;
    config.allgather = alone;
    config.device = ONEHOP_DEVICE_HOST;
    config.algorithm = "auto";
    config.tuning = path;
    onehop_result_t result = onehop_comm_create(&config, &comm);
    if (result != ONEHOP_SUCCESS) snprintf(why, TUNE_WHY, "%s", onehop_last_error());
    onehop_comm_destroy(comm);
    return result == ONEHOP_SUCCESS;
}

/* ---- as JSON ---- */

static json_object *add_shape(json_object *row, const tune_shape_t *shape) {
    row = json_add(row, (json_member_t[]){json_text("algorithm", shape->algorithm), {0}});
    if (shape->threads > 0) {
        const json_member_t launch[] = {json_int("packets", shape->packets),
                                        json_int("threads", shape->threads),
                                        json_int("blocks", shape->blocks),
                                        {0}};
        return json_add(row, launch);
    }
    const json_member_t pieces[] = {
        json_int("chunk_bytes", (int64_t)shape->chunk_bytes), json_flag("stream", shape->stream), {0}};
    return json_add(row, pieces);
}

/* Beyond the schema: time_at_bytes, the size that took time_us. */
static json_object *row_to_json(const tune_row_t *row) {
    const json_member_t from[] = {json_int("from_bytes", (int64_t)row->from_bytes), {0}};
    json_object *object = add_shape(json_add(json_object_new_object(), from), &row->shape);
    const json_member_t time[] = {
        json_real("time_us", row->time_us), json_int("time_at_bytes", (int64_t)row->at_bytes), {0}};
    return json_add(object, time);
}

static json_object *rows_to_json(const tune_table_t *table) {
    json_object *rows = json_object_new_array();
    for (int i = 0; i < table->nrows; i++) rows = json_append(rows, row_to_json(&table->rows[i]));
    return rows;
}

/* The members that make a table another one. */
static json_object *key_to_json(const tune_key_t *key) {
    const json_member_t both[] = {
        json_text("device", onehop_device_string(key->device)), json_int("nranks", key->nranks), {0}};
    json_object *object = json_add(json_object_new_object(), both);
    if (key->device == ONEHOP_DEVICE_HOST) {
        const json_member_t host[] = {
            json_text("placement", key->placement), json_flag("registered", key->registered), {0}};
        return json_add(object, host);
    }
    const json_member_t gpu[] = {json_text("gpu", key->gpu),
                                 json_text("links", key->links),
                                 json_text("dtype", onehop_dtype_string(key->dtype)),
                                 json_int("max_blocks", key->max_blocks),
                                 {0}};
    return json_add(object, gpu);
}

static bool has_key(const json_object *table, json_object *key) {
    json_object_object_foreach(key, name, value) {
        json_object *mine = NULL;
        if (!json_object_object_get_ex(table, name, &mine) || !json_object_equal(mine, value)) return false;
    }
    return true;
}

/* In the place of the one of the same key, if there is one. NULL if memory runs out. */
static json_object *put_table(json_object *tables, const tune_table_t *table, const machine_t *machine) {
    json_object *object = key_to_json(&table->key);
    for (size_t i = 0; object != NULL && tables != NULL && i < json_object_array_length(tables); i++) {
        if (has_key(json_object_array_get_idx(tables, i), object)) json_object_array_del_idx(tables, i--, 1);
    }
    if (table->key.device == ONEHOP_DEVICE_HOST) {
        object = json_add(object, (json_member_t[]){json_text("cpu", machine->cpu), {0}});
    }
    return json_append(tables, json_add(object, (json_member_t[]){json_value("rows", rows_to_json(table)), {0}}));
}

static json_object *old_tables(const char *path) {
    json_object *file = json_object_from_file(path), *tables = NULL;
    if (json_object_object_get_ex(file, "tables", &tables)) json_object_get(tables);
    json_object_put(file);
    return tables;
}

/* NULL if memory runs out, or what was there has gone. */
static json_object *to_json(const char *path, bool keep, const tune_found_t *found) {
    machine_t machine = {0};
    machine_describe(&machine);
    machine.host[TUNE_NAME - 1] = '\0';
    json_object *tables = keep ? old_tables(path) : json_object_new_array();
    for (int i = 0; i < found->count; i++) {
        if (found->tables[i].nrows > 0) tables = put_table(tables, &found->tables[i], &machine);
    }
    const json_member_t members[] = {json_text("schema", "onehop-tuning-1"),
                                     json_text("version", onehop_version()),
                                     json_text("commit", ONEHOP_COMMIT),
                                     json_text("date", machine.date),
                                     json_text("host", machine.host),
                                     json_value("tables", tables),
                                     {0}};
    return json_add(json_object_new_object(), members);
}

bool tune_file_write(const char *path, bool keep, const tune_found_t *found) {
    output_t output;
    if (json_save(to_json(path, keep, found), path, &output)) return true;
    complain("%s", output.error);
    return false;
}
