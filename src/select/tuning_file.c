/* SPDX-License-Identifier: Apache-2.0 */
#include "select/tuning_file.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena/device_layout.h"
#include "base/status.h"
#include "select/device.h"
#include "select/select.h"

static const char schema[] = "onehop-tuning-1";

enum { DEPTH_MAX = 8, EXPECTED_TEXT = 160 };

/* Where in the file the reader is, for its sentences. Counted from 1; 0: in none. */
typedef struct place {
    const char *path;
    int table, row;
} place_t;

/* ---- what is refused ---- */

static onehop_result_t refuse(const place_t *at, const char *what, const char *is, const char *expected) {
    char where[64] = "";
    if (at->table > 0) snprintf(where, sizeof where, "table %d: ", at->table);
    if (at->row > 0) snprintf(where, sizeof where, "table %d, row %d: ", at->table, at->row);
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "tuning file %.200s: %s%s is %.60s: expected %s", at->path, where, what, is,
                   expected);
}

static onehop_result_t refuse_member(const place_t *at, const json_object *object, const char *name,
                                     const char *expected) {
    json_object *value;
    if (!json_object_object_get_ex(object, name, &value)) return refuse(at, name, "missing", expected);
    return refuse(at, name, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN), expected);
}

/* ---- members ---- */

/* NULL unless it is there, and of this type. */
static json_object *find_member(const json_object *object, const char *name, json_type type) {
    json_object *value = NULL;
    json_object_object_get_ex(object, name, &value);
    return json_object_is_type(value, type) ? value : NULL;
}

static onehop_result_t read_number(const place_t *at, const json_object *object, const char *name, int min, int max,
                                   int step, int *out) {
    const json_object *value = find_member(object, name, json_type_int);
    int64_t number = value != NULL ? json_object_get_int64(value) : -1; /* saturates */
    *out = (int)number;
    if (value != NULL && number >= min && number <= max && number % step == 0) return ONEHOP_SUCCESS;
    char expected[EXPECTED_TEXT];
    int length = snprintf(expected, sizeof expected, "%d to %d", min, max);
    if (step > 1) snprintf(expected + length, sizeof expected - (size_t)length, ", a multiple of %d", step);
    return refuse_member(at, object, name, expected);
}

static onehop_result_t read_bool(const place_t *at, const json_object *object, const char *name, bool *out) {
    const json_object *value = find_member(object, name, json_type_boolean);
    if (value == NULL) return refuse_member(at, object, name, "true or false");
    *out = json_object_get_boolean(value);
    return ONEHOP_SUCCESS;
}

/* NULL unless it is a text without a zero in it. */
static const char *find_text(const json_object *object, const char *name) {
    json_object *value = find_member(object, name, json_type_string);
    const char *text = value != NULL ? json_object_get_string(value) : NULL;
    return text != NULL && strlen(text) == (size_t)json_object_get_string_len(value) ? text : NULL;
}

static onehop_result_t read_text(const place_t *at, const json_object *object, const char *name,
                                 char out[OH_TUNED_NAME]) {
    const char *text = find_text(object, name);
    size_t length = text != NULL ? strlen(text) : 0;
    if (length == 0 || length >= OH_TUNED_NAME) {
        char expected[EXPECTED_TEXT];
        snprintf(expected, sizeof expected, "a text of 1 to %d bytes", OH_TUNED_NAME - 1);
        return refuse_member(at, object, name, expected);
    }
    memcpy(out, text, length + 1);
    return ONEHOP_SUCCESS;
}

/* The index of the text among those that `name_of` gives until NULL. */
static onehop_result_t read_name(const place_t *at, const json_object *object, const char *name,
                                 const char *(*name_of)(int), int *out) {
    const char *text = find_text(object, name);
    char expected[EXPECTED_TEXT];
    size_t length = 0;
    *out = -1;
    for (int i = 0; name_of(i) != NULL; i++) {
        *out = i;
        if (text != NULL && strcmp(text, name_of(i)) == 0) return ONEHOP_SUCCESS;
        length +=
            (size_t)snprintf(expected + length, sizeof expected - length, "%s%s", i > 0 ? ", " : "one of ", name_of(i));
    }
    return refuse_member(at, object, name, expected);
}

static const char *device_name(int i) { return onehop_device_string((onehop_device_t)i); }
static const char *dtype_name(int i) { return onehop_dtype_string((onehop_dtype_t)i); }
static const char *links_name(int i) { return oh_links_name((oh_links_t)i); }
static const char *placement_name(int i) { return oh_placement_name((oh_placement_t)i); }
static const char *host_algorithm(int i) { return i < OH_ALGORITHMS ? oh_algorithms[i].name : NULL; }
static const char *device_algorithm(int i) { return i < OH_DEVICE_ALGORITHMS ? oh_device_algorithms[i].name : NULL; }

/* ---- tables ---- */

/* An array of `min` to `max` objects. */
static onehop_result_t find_list(const place_t *at, const json_object *object, const char *name, const char *of,
                                 int min, int max, json_object **out, int *count) {
    char expected[EXPECTED_TEXT];
    snprintf(expected, sizeof expected, "an array of %d to %d %s, each an object", min, max, of);
    *out = find_member(object, name, json_type_array);
    if (*out == NULL) return refuse_member(at, object, name, expected);
    size_t length = json_object_array_length(*out);
    if (length < (size_t)min || length > (size_t)max) {
        char number[32];
        snprintf(number, sizeof number, "an array of %zu", length);
        return refuse(at, name, number, expected);
    }
    for (size_t i = 0; i < length; i++) {
        if (!json_object_is_type(json_object_array_get_idx(*out, i), json_type_object)) {
            return refuse_member(at, object, name, expected);
        }
    }
    *count = (int)length;
    return ONEHOP_SUCCESS;
}

static onehop_result_t find_rows(const place_t *at, const json_object *table, json_object **rows, int *count) {
    return find_list(at, table, "rows", "rows", 1, OH_TABLE_ROWS, rows, count);
}

/* The first row begins at 0, and each other one behind the one before. */
static onehop_result_t read_from(const place_t *at, const json_object *row, size_t before, size_t *out) {
    int from;
    OH_TRY(read_number(at, row, "from_bytes", 0, OH_TABLE_FROM_MAX, 1, &from));
    *out = (size_t)from;
    if (at->row == 1 && from != 0) return refuse_member(at, row, "from_bytes", "0 in the first row");
    if (at->row > 1 && *out <= before) return refuse_member(at, row, "from_bytes", "more than in the row before");
    return ONEHOP_SUCCESS;
}

static onehop_result_t read_host_row(const place_t *at, const json_object *row, bool registered, oh_host_row_t *out) {
    int algorithm, chunk;
    OH_TRY(read_name(at, row, "algorithm", host_algorithm, &algorithm));
    if (oh_algorithms[algorithm].needs_registration && !registered) {
        return refuse_member(at, row, "algorithm", "one that needs no registration, as the table's buffers have none");
    }
    OH_TRY(read_number(at, row, "chunk_bytes", 0, OH_CHUNK_MAX, OH_CHUNK_STEP, &chunk));
    if (chunk == 0 && algorithm != OH_DIRECT) {
        return refuse_member(at, row, "chunk_bytes", "more than 0 for what is not direct");
    }
    out->algorithm = (oh_algorithm_t)algorithm;
    out->chunk_bytes = (size_t)chunk;
    return read_bool(at, row, "stream", &out->stream);
}

static onehop_result_t read_device_row(const place_t *at, const json_object *row, oh_device_row_t *out) {
    int algorithm;
    OH_TRY(read_name(at, row, "algorithm", device_algorithm, &algorithm));
    out->algorithm = (oh_device_algorithm_t)algorithm;
    OH_TRY(read_number(at, row, "packets", 1, OH_DEVICE_PACKETS_MAX, 1, &out->packets));
    if (out->packets == 3) return refuse_member(at, row, "packets", "1, 2 or 4");
    if (!oh_device_algorithms[algorithm].packets) out->packets = 1;
    OH_TRY(read_number(at, row, "threads", OH_THREADS_STEP, OH_THREADS_MAX, OH_THREADS_STEP, &out->threads));
    return read_number(at, row, "blocks", 1, OH_TUNED_BLOCKS_MAX, 1, &out->blocks);
}

/* "tuning.json" of "/etc/tuning.json", as far as there is room: what a table is called. */
static void name_table(const place_t *at, const char *more, char name[OH_TABLE_NAME]) {
    const char *slash = strrchr(at->path, '/');
    snprintf(name, OH_TABLE_NAME, "%.40s%s", slash != NULL ? slash + 1 : at->path, more);
}

static onehop_result_t read_hosts(place_t *at, const json_object *table, oh_tuning_file_t *file) {
    oh_tuned_hosts_t *out = &file->hosts[file->nhosts];
    json_object *rows;
    int placement;
    OH_TRY(read_number(at, table, "nranks", 1, ONEHOP_MAX_RANKS, 1, &out->nranks));
    OH_TRY(read_name(at, table, "placement", placement_name, &placement));
    out->placement = (oh_placement_t)placement;
    OH_TRY(read_bool(at, table, "registered", &out->registered));
    for (const oh_tuned_hosts_t *t = file->hosts; t < out; t++) {
        if (t->nranks == out->nranks && t->placement == out->placement && t->registered == out->registered) {
            return refuse(at, "it", "the second of its nranks, placement and registered", "one");
        }
    }
    OH_TRY(find_rows(at, table, &rows, &out->table.count));
    name_table(at, "", out->table.name);
    for (int i = 0; i < out->table.count; i++) {
        const json_object *row = json_object_array_get_idx(rows, (size_t)i);
        oh_host_row_t *to = &out->table.rows[i];
        at->row = i + 1;
        OH_TRY(read_from(at, row, i > 0 ? to[-1].from_bytes : 0, &to->from_bytes));
        OH_TRY(read_host_row(at, row, out->registered, to));
    }
    file->nhosts++;
    return ONEHOP_SUCCESS;
}

static onehop_result_t read_gpus(place_t *at, const json_object *table, oh_tuning_file_t *file) {
    oh_tuned_gpus_t *out = &file->gpus[file->ngpus];
    json_object *rows;
    int links, dtype;
    char more[16];
    OH_TRY(read_text(at, table, "gpu", out->gpu));
    OH_TRY(read_name(at, table, "links", links_name, &links));
    out->links = (oh_links_t)links;
    OH_TRY(read_number(at, table, "nranks", 1, OH_GPU_RANKS, 1, &out->nranks));
    OH_TRY(read_name(at, table, "dtype", dtype_name, &dtype));
    out->dtype = (onehop_dtype_t)dtype;
    OH_TRY(read_number(at, table, "max_blocks", 0, OH_TUNED_BLOCKS_MAX, 1, &out->max_blocks));
    for (const oh_tuned_gpus_t *t = file->gpus; t < out; t++) {
        if (strcmp(t->gpu, out->gpu) == 0 && t->links == out->links && t->nranks == out->nranks &&
            t->dtype == out->dtype && t->max_blocks == out->max_blocks) {
            return refuse(at, "it", "the second of its gpu, links, nranks, dtype and max_blocks", "one");
        }
    }
    OH_TRY(find_rows(at, table, &rows, &out->table.count));
    snprintf(more, sizeof more, ", %s", dtype_name(dtype));
    name_table(at, more, out->table.name);
    out->table.measured = true;
    for (int i = 0; i < out->table.count; i++) {
        const json_object *row = json_object_array_get_idx(rows, (size_t)i);
        oh_device_row_t *to = &out->table.rows[i];
        at->row = i + 1;
        OH_TRY(read_from(at, row, i > 0 ? to[-1].from_bytes : 0, &to->from_bytes));
        OH_TRY(read_device_row(at, row, to));
    }
    file->ngpus++;
    return ONEHOP_SUCCESS;
}

static onehop_result_t read_tables(place_t *at, const json_object *root, oh_tuning_file_t *file) {
    json_object *tables;
    int count, device;
    OH_TRY(find_list(at, root, "tables", "tables", 0, OH_TUNING_FILE_TABLES, &tables, &count));
    file->gpus = calloc((size_t)count + 1, sizeof *file->gpus);
    file->hosts = calloc((size_t)count + 1, sizeof *file->hosts);
    if (file->gpus == NULL || file->hosts == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    for (int i = 0; i < count; i++) {
        const json_object *table = json_object_array_get_idx(tables, (size_t)i);
        at->table = i + 1;
        at->row = 0;
        OH_TRY(read_name(at, table, "device", device_name, &device));
        OH_TRY((device == ONEHOP_DEVICE_HOST ? read_hosts : read_gpus)(at, table, file));
    }
    return ONEHOP_SUCCESS;
}

/* ---- the whole ---- */

static onehop_result_t read_root(place_t *at, const json_object *root, oh_tuning_file_t *file) {
    const char *is = find_text(root, "schema");
    char version[OH_TUNED_NAME];
    if (is == NULL || strcmp(is, schema) != 0) return refuse_member(at, root, "schema", "\"onehop-tuning-1\"");
    OH_TRY(read_text(at, root, "version", version));
    if (strcmp(version, onehop_version()) != 0) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT,
                       "tuning file %.200s: made by onehop %s, this is %s: run `onehop tune` again", at->path, version,
                       onehop_version());
    }
    OH_TRY(read_text(at, root, "date", file->date));
    OH_TRY(read_text(at, root, "host", file->host));
    return read_tables(at, root, file);
}

onehop_result_t oh_tuning_file_parse(const char *path, const char *text, size_t bytes, oh_tuning_file_t *out) {
    place_t at = {.path = path};
    *out = (oh_tuning_file_t){.found = true};
    json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    if (tokener == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json_object *root = json_tokener_parse_ex(tokener, text, (int)bytes + 1); /* the zero tells that this is all */
    onehop_result_t result;
    const enum json_tokener_error error = json_tokener_get_error(tokener);
    const size_t end = json_tokener_get_parse_end(tokener);
    if (error != json_tokener_success || end < bytes) {
        result = oh_fail(ONEHOP_INVALID_ARGUMENT, "tuning file %.200s: not JSON, at byte %zu: %s", path, end,
                         error != json_tokener_success ? json_tokener_error_desc(error) : "a zero in the text");
    } else if (!json_object_is_type(root, json_type_object)) {
        result = refuse(&at, "it", json_object_to_json_string(root), "an object");
    } else {
        result = read_root(&at, root, out);
    }
    json_object_put(root);
    json_tokener_free(tokener);
    if (result != ONEHOP_SUCCESS) oh_tuning_file_free(out);
    return result;
}

/* A text that the caller frees, and its length, which begins at 0. */
static onehop_result_t read_all(const char *path, int fd, char **text, size_t *bytes) {
    struct stat status;
    if (fstat(fd, &status) != 0) return oh_fail(ONEHOP_INVALID_ARGUMENT, "tuning file %.200s: %m", path);
    if (!S_ISREG(status.st_mode)) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "tuning file %.200s: expected a regular file", path);
    }
    *text = malloc(OH_TUNING_FILE_BYTES + 1);
    if (*text == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    for (ssize_t got = 1; got != 0 && *bytes <= OH_TUNING_FILE_BYTES;) {
        got = read(fd, *text + *bytes, OH_TUNING_FILE_BYTES + 1 - *bytes);
        if (got < 0 && errno != EINTR) {
            return oh_fail(ONEHOP_INVALID_ARGUMENT, "tuning file %.200s cannot be read: %m", path);
        }
        if (got > 0) *bytes += (size_t)got;
    }
    if (*bytes > OH_TUNING_FILE_BYTES) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "tuning file %.200s is too long: expected at most %d bytes", path,
                       OH_TUNING_FILE_BYTES);
    }
    (*text)[*bytes] = '\0';
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_tuning_file_read(const char *path, oh_tuning_file_t *out) {
    char *text = NULL;
    size_t bytes = 0;
    *out = (oh_tuning_file_t){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is not waited for */
    if (fd < 0) {
        out->found = errno != ENOENT && errno != ENOTDIR;
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "tuning file %.200s cannot be opened: %m", path);
    }
    out->found = true;
    onehop_result_t result = read_all(path, fd, &text, &bytes);
    close(fd);
    if (result == ONEHOP_SUCCESS) result = oh_tuning_file_parse(path, text, bytes, out);
    free(text);
    return result;
}

void oh_tuning_file_free(oh_tuning_file_t *file) {
    free(file->gpus);
    free(file->hosts);
    file->gpus = NULL;
    file->hosts = NULL;
    file->ngpus = file->nhosts = 0;
}
