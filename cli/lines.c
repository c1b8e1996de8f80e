/* SPDX-License-Identifier: Apache-2.0 */
#include "lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A pipe that poll calls writable takes this much at once (POSIX: PIPE_BUF). */
enum { AT_ONCE = 4096, CHUNK_BYTES = 64 * 1024 };

struct chunk {
    chunk_t *next;
    int fd;
    size_t length, written, room;
    char bytes[];
};

void outbox_init(outbox_t *box) { *box = (outbox_t){0}; }

static void drop_first(outbox_t *box) {
    chunk_t *chunk = box->first;
    box->first = chunk->next;
    if (box->first == NULL) box->last = NULL;
    free(chunk);
}

void outbox_free(outbox_t *box) {
    while (box->first != NULL) drop_first(box);
}

int outbox_target(const outbox_t *box) { return box->first != NULL ? box->first->fd : -1; }

/* A chunk for `length` bytes and more, at the end of the queue. */
static chunk_t *add_chunk(outbox_t *box, int fd, size_t length) {
    size_t room = length > CHUNK_BYTES ? length : CHUNK_BYTES;
    chunk_t *chunk = malloc(sizeof *chunk + room);
    if (chunk == NULL) return NULL;
    *chunk = (chunk_t){.fd = fd, .room = room};
    *(box->last != NULL ? &box->last->next : &box->first) = chunk;
    box->last = chunk;
    return chunk;
}

bool outbox_put(outbox_t *box, int fd, const char *bytes, size_t length) {
    if (box->broken[fd] || length == 0) return true;
    chunk_t *chunk = box->last;
    if (chunk == NULL || chunk->fd != fd || chunk->room - chunk->length < length) chunk = add_chunk(box, fd, length);
    if (chunk == NULL) return false;
    memcpy(chunk->bytes + chunk->length, bytes, length);
    chunk->length += length;
    return true;
}

int outbox_write(outbox_t *box) {
    chunk_t *chunk = box->first;
    size_t left = chunk->length - chunk->written;
    ssize_t written = write(chunk->fd, chunk->bytes + chunk->written, left < AT_ONCE ? left : AT_ONCE);
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
    if (written >= 0) {
        chunk->written += (size_t)written;
        if (chunk->written == chunk->length) drop_first(box);
        return 0;
    }
    int error = errno, fd = chunk->fd;
    box->broken[fd] = true;
    while (outbox_target(box) >= 0 && box->broken[outbox_target(box)]) drop_first(box);
    return error;
}

static bool keep(lines_t *lines, const char *bytes, size_t length) {
    if (lines->length + length > lines->room) {
        size_t room = 2 * (lines->length + length);
        char *partial = realloc(lines->partial, room);
        if (partial == NULL) return false;
        lines->partial = partial;
        lines->room = room;
    }
    memcpy(lines->partial + lines->length, bytes, length);
    lines->length += length;
    return true;
}

bool lines_end(lines_t *lines, outbox_t *box) {
    if (lines->length == 0) return true;
    bool good = keep(lines, "\n", 1) && outbox_put(box, lines->target, lines->partial, lines->length);
    lines->length = 0;
    return good;
}

bool lines_feed(lines_t *lines, const char *bytes, size_t length, outbox_t *box) {
    while (length > 0) {
        if (lines->length == 0 && !keep(lines, lines->prefix, strlen(lines->prefix))) return false;
        const char *feed = memchr(bytes, '\n', length);
        size_t part = feed != NULL ? (size_t)(feed - bytes) : length;
        size_t room = LINE_MAX_BYTES - lines->length;
        bool full = part >= room && feed != bytes + room;
        if (full) part = room;
        if (!keep(lines, bytes, part)) return false;
        bool ends = full || feed != NULL;
        size_t step = part + (!full && feed != NULL);
        if (ends && !lines_end(lines, box)) return false;
        bytes += step;
        length -= step;
    }
    return true;
}

void lines_free(lines_t *lines) {
    free(lines->partial);
    lines->partial = NULL;
}
