/* SPDX-License-Identifier: Apache-2.0 */
/* An operation on the host from its header to its end, and all else that the backend offers to the library. */
#include "backend/host/host.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap/agree.h"

static const oh_host_algorithm_t *const algorithms[OH_ALGORITHMS] = {
    [OH_ONE_SHOT] = &oh_host_one_shot,
    [OH_TWO_SHOT] = &oh_host_two_shot,
    [OH_DIRECT] = &oh_host_direct,
};

static oh_host_t *host_of(oh_backend_t *backend) { return (oh_host_t *)(void *)backend; }

/* ---- one operation ---- */

static oh_plan_t make_plan(const oh_host_t *host, size_t bytes, bool registered, char *reason) {
    oh_question_t question = {.bytes = bytes,
                              .placement = host->topology.placement,
                              .registered = registered,
                              .forced = host->forced,
                              .chunk_max = host->layout.chunk_bytes};
    return oh_select(&question, &host->tuning.tables, reason);
}

/* Chooses the algorithm, and numbers the chunks, which follow last_chunk. */
static void prepare(oh_host_t *host, oh_host_op_t *op, uint64_t last_chunk, bool registered) {
    op->plan = make_plan(host, op->bytes, registered, NULL);
    size_t chunk =
        op->plan.algorithm == OH_DIRECT || op->plan.chunk_bytes > op->bytes ? op->bytes : op->plan.chunk_bytes;
    op->plan.chunk_bytes = chunk;
    op->first = last_chunk + 1;
    op->chunks = chunk == 0 ? 0 : (op->bytes + chunk - 1) / chunk;
    host->chunk = last_chunk + op->chunks;
}

/* Says what this rank is about to do, its input (or the input's address) being in place. */
static void announce(oh_host_t *host, const oh_host_op_t *op) {
    host->header++;
    if (op->chunks > 0) algorithms[op->plan.algorithm]->stage(host, op);
    oh_header_t *header = oh_host_header(host, host->rank);
    header->count = op->request->count;
    header->dtype = (uint8_t)op->request->dtype;
    header->op = (uint8_t)op->request->op;
    header->direct = op->plan.algorithm == OH_DIRECT;
    header->probe = oh_host_probe_is_due(host);
    oh_host_publish(host, &header->number, host->header);
}

static onehop_result_t fail_mismatch(oh_host_t *host, int other) {
    int low = host->rank < other ? host->rank : other, high = host->rank < other ? other : host->rank;
    const oh_header_t *a = oh_host_header(host, low), *b = oh_host_header(host, high);
    return oh_fault_raise(&host->faults, ONEHOP_MISMATCH,
                          "ranks disagree in operation %" PRIu64 ": rank %d called all_reduce with count %" PRIu64
                          ", dtype %s, op %s; rank %d with count %" PRIu64 ", dtype %s, op %s",
                          host->operation, low, a->count, onehop_dtype_string((onehop_dtype_t)a->dtype),
                          onehop_op_string((onehop_op_t)a->op), high, b->count,
                          onehop_dtype_string((onehop_dtype_t)b->dtype), onehop_op_string((onehop_op_t)b->op));
}

/* Waits for the headers of all, and checks that all do the same. *direct: how many ranks mean to use OH_DIRECT. */
static onehop_result_t meet(oh_host_t *host, int *direct) {
    const oh_header_t *mine = oh_host_header(host, host->rank);
    *direct = mine->direct;
    for (int i = 1; i < host->nranks; i++) {
        int r = host->rank + i < host->nranks ? host->rank + i : host->rank + i - host->nranks;
        const oh_header_t *header = oh_host_header(host, r);
        OH_TRY(oh_host_wait(host, r, &header->number, host->header));
        if (header->count != mine->count || header->dtype != mine->dtype || header->op != mine->op) {
            return fail_mismatch(host, r);
        }
        *direct += header->direct;
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t run_together(oh_host_t *host, oh_host_op_t *op) {
    bool registered = oh_registry_find(&host->registry, op->send, op->bytes, &op->send_place) &&
                      oh_registry_find(&host->registry, op->recv, op->bytes, &op->recv_place);
    uint64_t last_chunk = host->chunk;
    int direct;
    prepare(host, op, last_chunk, registered);
    announce(host, op);
    OH_TRY(meet(host, &direct));
    if (direct != 0 && direct != host->nranks) {
        /* Some ranks' buffers are registered and others' not. All have seen it in the headers, and all begin anew. */
        prepare(host, op, last_chunk, false);
        announce(host, op);
        OH_TRY(meet(host, &direct));
    }
    if (op->chunks > 0) OH_TRY(algorithms[op->plan.algorithm]->run(host, op));
    return oh_host_header(host, 0)->probe ? oh_host_probe(host) : ONEHOP_SUCCESS;
}

static onehop_result_t run(oh_backend_t *backend, const oh_request_t *request) {
    oh_host_t *host = host_of(backend);
    oh_host_op_t op = {
        .request = request,
        .send = request->sendbuf,
        .recv = request->recvbuf,
        .bytes = request->count << oh_dtype_shift(request->dtype),
        .reduce = host->reduce[request->dtype][request->op],
    };
    if (oh_fault_present(&host->faults)) return oh_fault_get(&host->faults);
    host->operation++;
    if (host->nranks == 1) {
        op.reduce(&request->recvbuf, 1, &request->sendbuf, 1, request->count, OH_STORE_CACHED);
        return ONEHOP_SUCCESS;
    }
    host->request = request;
    onehop_result_t result = run_together(host, &op);
    host->request = NULL;
    return result;
}

/* ---- memory ---- */

static oh_patience_t patience_of(oh_host_t *host) {
    return (oh_patience_t){
        .timeout_ms = host->config.timeout_ms, .interrupt = oh_fault_interrupt, .ctx = &host->faults};
}

static onehop_result_t host_alloc(oh_backend_t *backend, size_t bytes, void **ptr) {
    return oh_registry_alloc(&host_of(backend)->registry, bytes, ptr);
}

static onehop_result_t host_free(oh_backend_t *backend, void *ptr) {
    return oh_registry_free(&host_of(backend)->registry, ptr);
}

static onehop_result_t enroll(oh_backend_t *backend, void *ptr, size_t bytes) {
    oh_host_t *host = host_of(backend);
    oh_patience_t patience = patience_of(host);
    bool broken;
    onehop_result_t result = oh_registry_add(&host->registry, host->bootstrap, &patience, ptr, bytes, &broken);
    return oh_fault_settle(&host->faults, result, broken);
}

static onehop_result_t dismiss(oh_backend_t *backend, void *ptr) {
    oh_host_t *host = host_of(backend);
    oh_patience_t patience = patience_of(host);
    bool broken;
    onehop_result_t result = oh_registry_remove(&host->registry, host->bootstrap, &patience, ptr, &broken);
    return oh_fault_settle(&host->faults, result, broken);
}

static onehop_result_t graph_register(oh_backend_t *backend) {
    (void)backend;
    return ONEHOP_SUCCESS;
}

/* ---- what it is ---- */

static void explain(const oh_backend_t *backend, const oh_request_t *request, bool registered,
                    onehop_choice_t *choice) {
    size_t bytes = request->count << oh_dtype_shift(request->dtype);
    const oh_host_t *host = (const oh_host_t *)(const void *)backend;
    oh_plan_t plan = make_plan(host, bytes, registered, choice->reason);
    choice->algorithm = oh_algorithms[plan.algorithm].name;
    choice->chunk_bytes = plan.algorithm == OH_DIRECT || plan.chunk_bytes > bytes ? bytes : plan.chunk_bytes;
}

static void describe(const oh_backend_t *backend, onehop_comm_info_t *info) {
    const oh_host_t *host = (const oh_host_t *)(const void *)backend;
    info->workspace_bytes = host->layout.total;
    info->control_bytes = OH_PAGE;
    info->staging_bytes = OH_SLOTS * host->layout.chunk_bytes;
    info->simd = oh_simd_name(host->simd);
    info->cpus = host->topology.cpus;
    info->signal_ns = host->topology.signal_ns;
    info->placement = oh_placement_name(host->topology.placement);
    info->operations = host->operation;
    info->tuning = host->tuning.text;
}

/* ---- how it ends ---- */

static onehop_result_t status(oh_backend_t *backend) {
    oh_host_t *host = host_of(backend);
    if (!oh_fault_present(&host->faults))
        return oh_fault_find_lost(&host->faults, host->bootstrap, "onehop_comm_get_async_error");
    return oh_fault_get(&host->faults);
}

static void host_abort(oh_backend_t *backend) { oh_fault_abort(&host_of(backend)->faults); }

static void host_close(oh_backend_t *backend, bool forked) {
    oh_host_t *host = host_of(backend);
    oh_registry_close(&host->registry);
    if (!forked && host->segment[host->rank] != NULL) oh_fault_leave(&host->faults);
    if (!forked) oh_arena_close(&host->arena);
    free(host);
}

static const oh_backend_ops_t ops = {
    .run = run,
    .alloc = host_alloc,
    .free = host_free,
    .enroll = enroll,
    .dismiss = dismiss,
    .graph_register = graph_register,
    .explain = explain,
    .describe = describe,
    .status = status,
    .abort = host_abort,
    .close = host_close,
};

/* ---- how it begins ---- */

static void find_reductions(oh_host_t *host) {
    host->simd = oh_simd_best();
    for (int dtype = 0; dtype < OH_DTYPES; dtype++) {
        for (int op = 0; op < OH_OPS; op++) {
            host->reduce[dtype][op] = oh_reduce_find(host->simd, (onehop_dtype_t)dtype, (onehop_op_t)op);
        }
    }
}

static onehop_result_t find_tables(oh_host_t *host, const oh_patience_t *patience) {
    onehop_result_t mine = host->rank == 0 ? oh_tuning_for_hosts(&host->config, &host->tuning) : ONEHOP_SUCCESS;
    return oh_agree_with_first(host->bootstrap, "tuning", mine, &host->tuning, sizeof host->tuning, patience);
}

static onehop_result_t set_up(oh_host_t *host) {
    oh_patience_t patience = {.timeout_ms = host->config.bootstrap_timeout_ms};
    OH_TRY(oh_forced_parse(host->config.algorithm, &host->forced));
    OH_TRY(find_tables(host, &patience));
    host->layout =
        oh_layout_make(host->config.workspace_bytes, oh_select_chunk_max(&host->forced, &host->tuning.tables));
    OH_TRY(oh_arena_open(host->bootstrap, host->layout.total, &patience, &host->arena));
    for (int r = 0; r < host->nranks; r++) {
        host->segment[r] = (oh_segment_t *)(void *)host->arena.base[r];
        host->faults.of[r] = &host->segment[r]->fault;
    }
    oh_topology_from_cards(host->bootstrap, &host->topology);
    bool measure = host->nranks > 1 && !host->topology.crowded;
    return measure ? oh_host_probe(host) : ONEHOP_SUCCESS;
}

onehop_result_t oh_host_open(const oh_config_t *config, oh_bootstrap_t *bootstrap, oh_backend_t **out) {
    oh_host_t *host = calloc(1, sizeof *host);
    if (host == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    host->backend.ops = &ops;
    host->config = *config;
    host->bootstrap = bootstrap;
    host->rank = host->faults.rank = oh_bootstrap_rank(bootstrap);
    host->nranks = host->faults.nranks = oh_bootstrap_nranks(bootstrap);
    find_reductions(host);
    onehop_result_t result = set_up(host);
    if (result != ONEHOP_SUCCESS) {
        host_close(&host->backend, false);
        return result;
    }
    *out = &host->backend;
    return ONEHOP_SUCCESS;
}
