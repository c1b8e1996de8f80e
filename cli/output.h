/* SPDX-License-Identifier: Apache-2.0 */
/* A file that appears whole or not at all: written beside its place and renamed. What is no regular file (a pipe, a
 * terminal) is written directly. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

typedef struct output {
    FILE *file;       /* to write to; output_commit finds the errors */
    const char *path; /* the caller's */
    char *target;     /* the same, links resolved */
    char *temporary;  /* where it is until it is whole; NULL: there already */
    char error[1024]; /* says what went wrong, once a call returned false */
} output_t;

/* Each ends with output_commit or output_discard, once it has succeeded. */
bool output_open(output_t *output, const char *path);
bool output_commit(output_t *output);
void output_discard(output_t *output);
/* Whether output_open would do: to learn it before the work, not after. */
bool output_possible(output_t *output, const char *path);

#endif
