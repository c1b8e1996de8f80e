/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams cut into lines, and the one queue through which lines go to stdout and stderr: a line is written to its end
 * before the next one begins, also where both are the same terminal. Nothing here waits.
 */
#ifndef CLI_LINES_H
#define CLI_LINES_H

#include <stdbool.h>
#include <stddef.h>

/* ---- the queue ---- */

typedef struct chunk chunk_t;

typedef struct outbox {
    chunk_t *first, *last;
    bool broken[3]; /* by descriptor: it cannot be written to, and what is meant for it is dropped */
} outbox_t;

void outbox_init(outbox_t *box);
void outbox_free(outbox_t *box);
/* The descriptor that the queue waits to write to; -1 if the queue is empty. */
int outbox_target(const outbox_t *box);
/* False if memory runs out. */
bool outbox_put(outbox_t *box, int fd, const char *bytes, size_t length);
/* Call when poll says that the target can be written to: writes so little that it does not wait. Returns 0, or the
 * errno of a write that failed, once for each descriptor. */
int outbox_write(outbox_t *box);

/* ---- a stream ---- */

/* Longer lines are broken here, so that no program can use up all memory. */
enum { LINE_MAX_BYTES = 1 << 20 };

typedef struct lines {
    int target; /* the descriptor that its lines go to */
    char prefix[16];
    char *partial; /* the line that has begun */
    size_t length, room;
} lines_t;

/* Queues the lines that end in `bytes`, keeps the rest. False if memory runs out. */
bool lines_feed(lines_t *lines, const char *bytes, size_t length, outbox_t *box);
/* The stream has ended: queues a last line that has no line feed, with one. */
bool lines_end(lines_t *lines, outbox_t *box);
void lines_free(lines_t *lines);

#endif
