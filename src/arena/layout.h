/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one rank's segment of shared memory holds, and where.
 *
 *     control   oh_segment_t, one page: flags and headers
 *     slots     OH_SLOTS of chunk_bytes: this rank's input on its way to the peers, and their results on the way back
 *
 * Of the control page only the owner writes, but for the poison word (arena/fault.h) and the waiters' words `sleepers`
 * and `bell`. Words that are polled have two cache lines of their own: processors fetch lines in pairs.
 */
#ifndef OH_ARENA_LAYOUT_H
#define OH_ARENA_LAYOUT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "arena/fault.h"

enum {
    OH_SLOTS = 4,         /* why four: backend/host/host.h */
    OH_HEADERS = 2,       /* headers of operations, used in turn */
    OH_INLINE_BYTES = 40, /* a message this small travels in the header itself */
    OH_LINE_PAIR = 128,
    OH_PAGE = 4096
};

/* What a rank says when it begins an operation: one cache line. */
typedef struct oh_header {
    _Atomic uint64_t number; /* of the operation whose header this is; stored last, with release */
    uint64_t count;
    uint8_t dtype, op;
    uint8_t direct; /* the buffers are registered: their addresses follow */
    uint8_t probe;  /* rank 0: let us measure the signal time after this operation */
    union {
        unsigned char data[OH_INLINE_BYTES];
        struct {
            uint32_t registration[2]; /* of sendbuf and recvbuf */
            uint64_t offset[2];       /* and where in them the buffers begin */
        } at;
    } u;
} oh_header_t;

typedef struct oh_segment {
    oh_fault_t fault;
    _Atomic uint32_t users; /* ranks that hold this mapping, where they are threads of one process */
    _Alignas(OH_LINE_PAIR) _Atomic uint32_t sleepers; /* how many wait for this rank's bell */
    _Atomic uint32_t bell;                            /* futex word, changed to wake them */
    _Alignas(OH_LINE_PAIR) _Atomic uint64_t staged;   /* chunks up to this number are staged */
    _Alignas(OH_LINE_PAIR) _Atomic uint64_t reduced;  /* this rank has reduced its part of chunks up to this number */
    _Alignas(OH_LINE_PAIR) _Atomic uint64_t token;    /* probe of the signal time: rounds passed on */
    double signal_ns;                                 /* rank 0: its outcome, published by the last token */
    struct {
        _Alignas(OH_LINE_PAIR) oh_header_t header;
    } ring[OH_HEADERS];
} oh_segment_t;

_Static_assert(sizeof(oh_header_t) == 64, "a header is one cache line");
_Static_assert(sizeof(oh_segment_t) <= OH_PAGE, "control fits a page");

/* Parts of a chunk begin at multiples of this many bytes: a cache line, and whole elements of every type. */
enum { OH_PART_ALIGN = 64 };

/* Where part `index` of `bytes` bytes begins; part_begin(n) is the end of the last. */
static inline size_t oh_part_begin(size_t bytes, int index, int nranks) {
    size_t each = (bytes + (size_t)nranks - 1) / (size_t)nranks;
    each = (each + OH_PART_ALIGN - 1) / OH_PART_ALIGN * OH_PART_ALIGN;
    size_t begin = each * (size_t)index;
    return begin < bytes ? begin : bytes;
}

typedef struct oh_layout {
    size_t chunk_bytes; /* a slot */
    size_t total;       /* bytes of a segment: at most the workspace that was asked for */
} oh_layout_t;

/* The largest slots of at most chunk_max bytes that workspace_bytes (at least OH_WORKSPACE_MIN) have room for. */
oh_layout_t oh_layout_make(size_t workspace_bytes, size_t chunk_max);

#endif
