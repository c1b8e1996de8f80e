/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-shot: a chunk is divided into nranks parts, one a rank. Every rank stages the parts of the others, reduces its
 * own from what all have staged, and takes the others' results. Two hand-overs a chunk, no byte read twice.
 *
 * Three chunks are under way at once (stage c+1, reduce c, gather c-1), so that by the time a rank waits for its peers
 * they have usually done their part.
 */
#include "backend/host/host.h"

static unsigned char *output(const oh_host_op_t *op, uint64_t c) { return op->recv + c * op->plan.chunk_bytes; }

static void stage_chunk(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    size_t length = oh_host_chunk_length(op, c);
    size_t begin = oh_part_begin(length, host->rank, host->nranks);
    size_t end = oh_part_begin(length, host->rank + 1, host->nranks);
    const unsigned char *input = op->send + c * op->plan.chunk_bytes;
    unsigned char *slot = oh_host_staging(host, host->rank, op->first + c);
    oh_copy(slot, input, begin, OH_STORE_CACHED);
    oh_copy(slot + end, input + end, length - end, OH_STORE_CACHED);
}

static void stage(oh_host_t *host, const oh_host_op_t *op) { stage_chunk(host, op, 0); }

static void reduce_part(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    size_t length = oh_host_chunk_length(op, c);
    size_t begin = oh_part_begin(length, host->rank, host->nranks);
    size_t end = oh_part_begin(length, host->rank + 1, host->nranks);
    const void *src[ONEHOP_MAX_RANKS];
    for (int r = 0; r < host->nranks; r++) src[r] = oh_host_staging(host, r, op->first + c) + begin;
    src[host->rank] = op->send + c * op->plan.chunk_bytes + begin;
    /* Around the cache the peers' copy must not go: it is taken from the cache to the output by gather_part. */
    void *dst[2] = {oh_host_result(host, host->rank, op->first + c), output(op, c) + begin};
    op->reduce(dst, op->plan.stream ? 1 : 2, src, host->nranks, (end - begin) >> oh_dtype_shift(op->request->dtype),
               OH_STORE_CACHED);
}

static void gather_part(oh_host_t *host, const oh_host_op_t *op, uint64_t c, int r) {
    size_t length = oh_host_chunk_length(op, c);
    size_t begin = oh_part_begin(length, r, host->nranks), end = oh_part_begin(length, r + 1, host->nranks);
    oh_copy(output(op, c) + begin, oh_host_result(host, r, op->first + c), end - begin,
            op->plan.stream ? OH_STORE_STREAM : OH_STORE_CACHED);
}

static onehop_result_t gather_chunk(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    if (op->plan.stream) gather_part(host, op, c, host->rank);
    for (int i = 1; i < host->nranks; i++) {
        int r = (host->rank + i) % host->nranks;
        OH_TRY(oh_host_wait(host, r, &host->segment[r]->reduced, op->first + c));
        gather_part(host, op, c, r);
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
