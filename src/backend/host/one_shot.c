/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-shot: every rank stages its input, then reads all inputs and reduces everything itself. One hand-over a chunk,
 * the next chunk being staged before the present one is reduced; nranks times the reading.
 */
#include <string.h>

#include "backend/host/host.h"

static void stage_chunk(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    oh_copy(oh_host_slot(host, op, host->rank, c), op->send + c * op->plan.chunk_bytes, oh_host_chunk_length(op, c),
            OH_STORE_CACHED);
}

static void stage(oh_host_t *host, const oh_host_op_t *op) {
    if (op->bytes <= OH_INLINE_BYTES) {
        memcpy(oh_host_header(host, host->rank)->u.data, op->send, op->bytes);
    } else {
        stage_chunk(host, op, 0);
    }
}

static void reduce_chunk(oh_host_t *host, const oh_host_op_t *op, uint64_t c) {
    const void *src[ONEHOP_MAX_RANKS];
    for (int r = 0; r < host->nranks; r++) {
        src[r] = op->bytes <= OH_INLINE_BYTES ? oh_host_header(host, r)->u.data : oh_host_slot(host, op, r, c);
    }
    src[host->rank] = op->send + c * op->plan.chunk_bytes;
    void *dst = op->recv + c * op->plan.chunk_bytes;
    op->reduce(&dst, 1, src, host->nranks, oh_host_chunk_length(op, c) >> oh_dtype_shift(op->request->dtype),
               op->plan.stream ? OH_STORE_STREAM : OH_STORE_CACHED);
}

static onehop_result_t run(oh_host_t *host, const oh_host_op_t *op) {
    for (uint64_t c = 0; c < op->chunks; c++) {
        if (c + 1 < op->chunks) {
            stage_chunk(host, op, c + 1);
            oh_host_publish(host, &host->segment[host->rank]->staged, op->first + c + 1);
        }
        if (c > 0) OH_TRY(oh_host_wait_all(host, offsetof(oh_segment_t, staged), op->first + c));
        reduce_chunk(host, op, c);
    }
    return ONEHOP_SUCCESS;
}

const oh_host_algorithm_t oh_host_one_shot = {stage, run};
