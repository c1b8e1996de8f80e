/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot: a chunk is divided into nranks parts, one a rank. Every rank stages the parts of the others in its slot,
 * reduces its own part from what all have staged, and puts the result where it found each peer's input; every rank then
 * takes the finished parts from its own slot. Two hand-overs a chunk.
 *
 * Writing results over the inputs is what makes it fast: the lines are already in the writer's cache, and go back to
 * the cache of the rank that will read them, and next write them. A slot then travels to and fro with one transfer of
 * each line either way; separate rings for inputs and results needed twice as many, and invalidations (bench/NOTES.md).
 *
 * Three chunks are under way at once (stage c+1, reduce c, gather c-1), so that by the time a rank waits for its peers
 * they have usually done their part.
 */
#include "backend/host/host.h"

/* This rank's part of chunk c, and what surrounds it. */
typedef struct extent {
    size_t begin, end; /* of the part */
    size_t length;     /* of the chunk */
} extent_t;

static extent_t own_part(const oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    size_t length = oh_host_chunk_length(op, c);
    return (extent_t){oh_part_begin(length, host->rank, host->nranks),
                      oh_part_begin(length, host->rank + 1, host->nranks), length};
}

static void stage_chunk(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    extent_t own = own_part(host, op, c);
    const unsigned char *input = op->send + c * op->plan.chunk_bytes;
    unsigned char *slot = oh_host_slot(host, op, host->rank, c);
    oh_copy(slot, input, own.begin, OH_STORE_CACHED);
    oh_copy(slot + own.end, input + own.end, own.length - own.end, OH_STORE_CACHED);
}

static void stage(oh_host_t *host, const oh_host_op_t *op) { stage_chunk(host, op, 0); }

static void reduce_part(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    extent_t own = own_part(host, op, c);
    size_t at = c * op->plan.chunk_bytes + own.begin;
    const void *src[ONEHOP_MAX_RANKS];
    void *dst[ONEHOP_MAX_RANKS];
    for (int r = 0; r < host->nranks; r++) src[r] = dst[r] = oh_host_slot(host, op, r, c) + own.begin;
    src[host->rank] = op->send + at;
    /* What is to go around the cache goes in one piece when it is gathered; else this part goes straight home. */
    if (!op->plan.stream) dst[host->rank] = op->recv + at;
    op->reduce(dst, host->nranks, src, host->nranks, (own.end - own.begin) >> oh_dtype_shift(op->request->dtype),
               OH_STORE_CACHED);
}

static onehop_result_t gather_chunk(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    extent_t own = own_part(host, op, c);
    unsigned char *output = op->recv + c * op->plan.chunk_bytes;
    const unsigned char *slot = oh_host_slot(host, op, host->rank, c);
    OH_TRY(oh_host_wait_all(host, offsetof(oh_segment_t, reduced), op->first + c));
    if (op->plan.stream) {
        oh_copy(output, slot, own.length, OH_STORE_STREAM);
    } else {
        oh_copy(output, slot, own.begin, OH_STORE_CACHED);
        oh_copy(output + own.end, slot + own.end, own.length - own.end, OH_STORE_CACHED);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t run(oh_host_t *host, const oh_host_op_t *op) {
    oh_segment_t *mine = host->segment[host->rank];
    for (uint64_t c = 0; c < op->chunks; c++) {
        if (c + 1 < op->chunks) {
            stage_chunk(host, op, c + 1);
            oh_host_publish(host, &mine->staged, op->first + c + 1);
        }
        if (c > 0) OH_TRY(oh_host_wait_all(host, offsetof(oh_segment_t, staged), op->first + c));
        reduce_part(host, op, c);
        oh_host_publish(host, &mine->reduced, op->first + c);
        if (c > 0) OH_TRY(gather_chunk(host, op, c - 1));
    }
    return op->chunks > 0 ? gather_chunk(host, op, op->chunks - 1) : ONEHOP_SUCCESS;
}

const oh_host_algorithm_t oh_host_two_shot = {stage, run};
