/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON as json-c has it, written member by member:
 *
 *   json_add(json_object_new_object(), (json_member_t[]){json_text("name", name), json_int("count", 3), {0}})
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "output.h"

typedef struct json_member {
    const char *key; /* NULL: the end of a list of members */
    json_object *value;
    bool good; /* else memory ran out */
} json_member_t;

json_member_t json_text(const char *key, const char *value); /* NULL: null */
json_member_t json_int(const char *key, int64_t value);
json_member_t json_real(const char *key, double value); /* to six digits */
json_member_t json_flag(const char *key, bool value);
json_member_t json_value(const char *key, json_object *value); /* which becomes the member's; NULL: memory ran out */

/* Adds the members to the object, and returns it; NULL, with the object freed, if memory ran out, now or before. */
json_object *json_add(json_object *object, const json_member_t *members);
/* The same for one more value at the end of an array. */
json_object *json_append(json_object *array, json_object *value);

/* False if memory ran out; whether the text has arrived is for the file's owner to see. */
bool json_write(json_object *object, FILE *file);
/* A file that appears whole or not at all. Frees the object, or NULL, with which it fails. */
bool json_save(json_object *object, const char *path, output_t *output);

#endif
