/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct: the buffers of all ranks are registered. Every rank reduces its part of the message from all send buffers
 * into all receive buffers, between two meetings of all ranks: the headers say that the inputs are there, `reduced`
 * says that this rank needs them no more and that its part of all outputs is written.
 */
#include "backend/host/host.h"

static void stage(oh_host_t *host, const oh_host_op_t *op) {
    oh_header_t *header = oh_host_header(host, host->rank);
    header->u.at.registration[0] = op->send_place.registration;
    header->u.at.registration[1] = op->recv_place.registration;
    header->u.at.offset[0] = op->send_place.offset;
    header->u.at.offset[1] = op->recv_place.offset;
}

static unsigned char *buffer_of(const oh_host_t *host, int rank, int which) {
    const oh_header_t *header = oh_host_header(host, rank);
    return oh_registry_at(&host->registry, rank,
                          (oh_place_t){header->u.at.registration[which], header->u.at.offset[which]});
}

static onehop_result_t run(oh_host_t *host, const oh_host_op_t *op) {
    size_t begin = oh_part_begin(op->bytes, host->rank, host->nranks);
    size_t end = oh_part_begin(op->bytes, host->rank + 1, host->nranks);
    const void *src[ONEHOP_MAX_RANKS];
    void *dst[ONEHOP_MAX_RANKS];
    for (int r = 0; r < host->nranks; r++) {
        src[r] = buffer_of(host, r, 0) + begin;
        dst[r] = buffer_of(host, r, 1) + begin;
    }
    op->reduce(dst, host->nranks, src, host->nranks, (end - begin) >> oh_dtype_shift(op->request->dtype),
               op->plan.stream ? OH_STORE_STREAM : OH_STORE_CACHED);
    oh_host_publish(host, &host->segment[host->rank]->reduced, op->first);
    return oh_host_wait_all(host, offsetof(oh_segment_t, reduced), op->first);
}

const oh_host_algorithm_t oh_host_direct = {stage, run};
