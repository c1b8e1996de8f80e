/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

static char six_digits[] = "%.6g";

json_member_t json_value(const char *key, json_object *value) { return (json_member_t){key, value, value != NULL}; }

json_member_t json_text(const char *key, const char *value) {
    if (value == NULL) return (json_member_t){key, NULL, true};
    return json_value(key, json_object_new_string(value));
}

json_member_t json_int(const char *key, int64_t value) { return json_value(key, json_object_new_int64(value)); }

json_member_t json_real(const char *key, double value) {
    json_object *real = json_object_new_double(value);
    if (real != NULL) json_object_set_serializer(real, json_object_double_to_json_string, six_digits, NULL);
    return json_value(key, real);
}

json_member_t json_flag(const char *key, bool value) { return json_value(key, json_object_new_boolean(value)); }

/* What no object has taken is freed here. */
json_object *json_add(json_object *object, const json_member_t *members) {
    bool good = object != NULL;
    for (const json_member_t *m = members; m->key != NULL; m++) {
        good = good && m->good;
        if (good && json_object_object_add(object, m->key, m->value) == 0) continue;
        good = false;
        json_object_put(m->value);
    }
    if (good) return object;
    json_object_put(object);
    return NULL;
}

json_object *json_append(json_object *array, json_object *value) {
    if (array != NULL && value != NULL && json_object_array_add(array, value) == 0) return array;
    json_object_put(value);
    json_object_put(array);
    return NULL;
}

/* One by one: what cannot be written then stays in the file's buffer, and who flushes it learns why. */
bool json_write(json_object *object, FILE *file) {
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                                  JSON_C_TO_STRING_NOSLASHESCAPE);
    for (const char *c = text; c != NULL && *c != '\0' && putc(*c, file) != EOF; c++) continue;
    putc('\n', file);
    return text != NULL;
}

bool json_save(json_object *object, const char *path, output_t *output) {
    bool opened = output_open(output, path), good = opened && object != NULL && json_write(object, output->file);
    json_object_put(object);
    if (good) return output_commit(output);
    if (!opened) return false;
    output_discard(output);
    snprintf(output->error, sizeof output->error, "no memory for %s", path);
    return false;
}
