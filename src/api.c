/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls: check the arguments, then one call down. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/dtype.h"
#include "base/status.h"
#include "comm.h"
#include "select/device.h"
#include "select/select.h"

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const char *onehop_version(void) {
    return TEXT(ONEHOP_VERSION_MAJOR) "." TEXT(ONEHOP_VERSION_MINOR) "." TEXT(ONEHOP_VERSION_PATCH);
}

/* ---- who may call ---- */

static onehop_result_t check_comm(const onehop_comm_t *comm) {
    if (comm == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "comm is NULL: expected a communicator");
    if (oh_comm_forked(comm)) {
        return oh_fail(
            ONEHOP_INVALID_ARGUMENT,
            "comm belongs to the parent of this process: after fork only onehop_comm_destroy may be called on it");
    }
    return ONEHOP_SUCCESS;
}

/* Every call but abort and get_async_error is made between enter and leave. */
static onehop_result_t enter(onehop_comm_t *comm) {
    OH_TRY(check_comm(comm));
    if (atomic_exchange_explicit(&comm->busy, true, memory_order_acquire)) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "comm is in use: another thread is inside a call on it");
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t leave(onehop_comm_t *comm, onehop_result_t result) {
    atomic_store_explicit(&comm->busy, false, memory_order_release);
    return result;
}

/* ---- lifetime ---- */

onehop_result_t onehop_comm_create(const onehop_config_t *config, onehop_comm_t **comm) {
    if (comm == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "comm is NULL: expected where to store the communicator");
    *comm = NULL;
    oh_config_t resolved;
    OH_TRY(oh_config_resolve(config, false, &resolved));
    return oh_comm_open(&resolved, NULL, comm);
}

/* One rank of onehop_comm_create_local, opened by a thread of its own since opening is collective. */
typedef struct local_rank {
    oh_config_t config;
    oh_local_group_t *group;
    onehop_comm_t *comm;
    onehop_result_t result;
    char error[OH_ERROR_TEXT];
    pthread_t thread;
} local_rank_t;

static void *open_local_rank(void *argument) {
    local_rank_t *rank = argument;
    rank->result = oh_comm_open(&rank->config, rank->group, &rank->comm);
    if (rank->result != ONEHOP_SUCCESS) snprintf(rank->error, sizeof rank->error, "%s", onehop_last_error());
    return NULL;
}

static onehop_result_t open_local_ranks(local_rank_t *ranks, int nranks) {
    int started = 0;
    while (started < nranks && pthread_create(&ranks[started].thread, NULL, open_local_rank, &ranks[started]) == 0) {
        started++;
    }
    for (int r = 0; r < started; r++) pthread_join(ranks[r].thread, NULL);
    if (started < nranks) return oh_fail(ONEHOP_OUT_OF_MEMORY, "cannot start a thread for rank %d", started);
    for (int r = 0; r < nranks; r++) {
        if (ranks[r].result != ONEHOP_SUCCESS) return oh_fail(ranks[r].result, "%s", ranks[r].error);
    }
    return ONEHOP_SUCCESS;
}

onehop_result_t onehop_comm_create_local(int nranks, const int *device_indices, onehop_device_t device,
                                         onehop_comm_t **comms) {
    if (comms == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "comms is NULL: expected room for nranks communicators");
    if (nranks < 1 || nranks > ONEHOP_MAX_RANKS) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "nranks is %d: expected 1 to %d", nranks, ONEHOP_MAX_RANKS);
    }
    memset(comms, 0, (size_t)nranks * sizeof(onehop_comm_t *));
    local_rank_t ranks[ONEHOP_MAX_RANKS] = {0};
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    config.nranks = nranks;
    config.device = device;
    for (int r = 0; r < nranks; r++) {
        config.rank = r;
        config.device_index = device_indices == NULL ? r : device_indices[r];
        OH_TRY(oh_config_resolve(&config, true, &ranks[r].config));
    }
    oh_local_group_t *group;
    OH_TRY(oh_local_group_create(nranks, &group));
    for (int r = 0; r < nranks; r++) ranks[r].group = group;
    onehop_result_t result = open_local_ranks(ranks, nranks);
    oh_local_group_release(group);
    for (int r = 0; r < nranks; r++) {
        if (result == ONEHOP_SUCCESS) {
            comms[r] = ranks[r].comm;
        } else if (ranks[r].comm != NULL) {
            oh_comm_close(ranks[r].comm);
        }
    }
    return result;
}

onehop_result_t onehop_comm_destroy(onehop_comm_t *comm) {
    if (comm == NULL) return ONEHOP_SUCCESS;
    if (!oh_comm_forked(comm)) OH_TRY(enter(comm));
    oh_comm_close(comm);
    return ONEHOP_SUCCESS;
}

/* ---- work ---- */

static onehop_result_t check_buffers(const void *sendbuf, void *recvbuf, size_t count, onehop_dtype_t dtype) {
    if (count == 0) return ONEHOP_SUCCESS;
    unsigned shift = oh_dtype_shift(dtype);
    if (sendbuf == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "sendbuf is NULL: expected %zu elements", count);
    if (recvbuf == NULL)
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "recvbuf is NULL: expected room for %zu elements", count);
    if (count > (SIZE_MAX / 2) >> shift) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "count is %zu: expected at most %zu elements of %s", count,
                       (SIZE_MAX / 2) >> shift, onehop_dtype_string(dtype));
    }
    uintptr_t send = (uintptr_t)sendbuf, recv = (uintptr_t)recvbuf;
    size_t distance = send < recv ? recv - send : send - recv;
    if (distance != 0 && distance < count << shift) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT,
                       "recvbuf %p overlaps sendbuf %p (%zu bytes each): expected the same buffer, or apart", recvbuf,
                       sendbuf, count << shift);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t check_types(onehop_dtype_t dtype, onehop_op_t op) {
    if (!oh_dtype_valid(dtype)) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "dtype is %d: expected a onehop_dtype_t, 0 to %d", (int)dtype,
                       OH_DTYPES - 1);
    }
    if (!oh_op_valid(op)) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "op is %d: expected a onehop_op_t, 0 to %d", (int)op, OH_OPS - 1);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t check_all_reduce(const oh_request_t *r, const onehop_comm_t *comm) {
    OH_TRY(check_types(r->dtype, r->op));
    OH_TRY(check_buffers(r->sendbuf, r->recvbuf, r->count, r->dtype));
    if (comm->config.device == ONEHOP_DEVICE_HOST && r->stream != NULL) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "stream is %p: expected NULL on the host", r->stream);
    }
    return ONEHOP_SUCCESS;
}

onehop_result_t onehop_all_reduce(const void *sendbuf, void *recvbuf, size_t count, onehop_dtype_t dtype,
                                  onehop_op_t op, onehop_comm_t *comm, void *stream) {
    OH_TRY(enter(comm));
    oh_request_t request = {sendbuf, recvbuf, count, dtype, op, stream};
    onehop_result_t result = check_all_reduce(&request, comm);
    if (result == ONEHOP_SUCCESS) result = comm->backend->ops->run(comm->backend, &request);
    return leave(comm, result);
}

/* ---- memory ---- */

onehop_result_t onehop_alloc(onehop_comm_t *comm, size_t bytes, void **ptr) {
    if (ptr == NULL)
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr is NULL: expected where to store the memory's address");
    *ptr = NULL;
    if (bytes == 0 || bytes > PTRDIFF_MAX) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "bytes is %zu: expected 1 to %td", bytes, PTRDIFF_MAX);
    }
    OH_TRY(enter(comm));
    return leave(comm, comm->backend->ops->alloc(comm->backend, bytes, ptr));
}

onehop_result_t onehop_free(onehop_comm_t *comm, void *ptr) {
    OH_TRY(enter(comm));
    return leave(comm, ptr == NULL ? ONEHOP_SUCCESS : comm->backend->ops->free(comm->backend, ptr));
}

/* A broken communicator gives its error to collective calls; a whole one goes on. */
static onehop_result_t enter_collective(onehop_comm_t *comm) {
    OH_TRY(enter(comm));
    onehop_result_t result = comm->backend->ops->status(comm->backend);
    return result == ONEHOP_SUCCESS ? result : leave(comm, result);
}

onehop_result_t onehop_register(onehop_comm_t *comm, void *ptr, size_t bytes) {
    OH_TRY(enter_collective(comm));
    return leave(comm, comm->backend->ops->enroll(comm->backend, ptr, bytes));
}

onehop_result_t onehop_deregister(onehop_comm_t *comm, void *ptr) {
    OH_TRY(enter_collective(comm));
    return leave(comm, comm->backend->ops->dismiss(comm->backend, ptr));
}

onehop_result_t onehop_graph_register(onehop_comm_t *comm) {
    OH_TRY(enter_collective(comm));
    return leave(comm, comm->backend->ops->graph_register(comm->backend));
}

/* ---- faults ---- */

onehop_result_t onehop_comm_abort(onehop_comm_t *comm) {
    OH_TRY(check_comm(comm));
    comm->backend->ops->abort(comm->backend);
    return ONEHOP_SUCCESS;
}

onehop_result_t onehop_comm_get_async_error(onehop_comm_t *comm, onehop_result_t *error) {
    if (error == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "error is NULL: expected where to store the result");
    OH_TRY(check_comm(comm));
    *error = comm->backend->ops->status(comm->backend);
    return ONEHOP_SUCCESS;
}

/* ---- what a communicator is ---- */

int onehop_comm_rank(const onehop_comm_t *comm) { return comm == NULL ? -1 : comm->config.rank; }
int onehop_comm_nranks(const onehop_comm_t *comm) { return comm == NULL ? -1 : comm->config.nranks; }

/* Callers compiled against an older header have a shorter structure, those of a newer one a longer. */
static onehop_result_t give(const char *name, void *out, size_t ours, const void *value) {
    size_t theirs;
    if (out == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s is NULL: expected a structure", name);
    memcpy(&theirs, out, sizeof theirs);
    if (theirs < sizeof theirs || theirs > 4096) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s->size is %zu: expected %zu, its sizeof", name, theirs, ours);
    }
    memset(out, 0, theirs);
    memcpy(out, value, theirs < ours ? theirs : ours);
    memcpy(out, &theirs, sizeof theirs);
    return ONEHOP_SUCCESS;
}

onehop_result_t onehop_comm_get_info(const onehop_comm_t *comm, onehop_comm_info_t *info) {
    OH_TRY(check_comm(comm));
    onehop_comm_info_t value = {.rank = comm->config.rank,
                                .nranks = comm->config.nranks,
                                .device = comm->config.device,
                                .device_index =
                                    comm->config.device == ONEHOP_DEVICE_HOST ? -1 : comm->config.device_index};
    comm->backend->ops->describe(comm->backend, &value);
    return give("info", info, sizeof value, &value);
}

onehop_result_t onehop_comm_get_peer(const onehop_comm_t *comm, int rank, onehop_peer_info_t *info) {
    OH_TRY(check_comm(comm));
    if (rank < 0 || rank >= comm->config.nranks) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "rank is %d: expected 0 to %d", rank, comm->config.nranks - 1);
    }
    const oh_card_t *card = oh_bootstrap_card(comm->bootstrap, rank);
    onehop_peer_info_t value = {.pid = (int)oh_bootstrap_pid(comm->bootstrap, rank),
                                .numa_node = oh_topology_numa_node(card),
                                .cpus = oh_topology_cpus(card)};
    return give("info", info, sizeof value, &value);
}

onehop_result_t onehop_comm_explain(const onehop_comm_t *comm, size_t count, onehop_dtype_t dtype, onehop_op_t op,
                                    int registered, onehop_choice_t *choice) {
    OH_TRY(check_comm(comm));
    OH_TRY(check_types(dtype, op));
    onehop_choice_t value = {0};
    oh_request_t request = {.count = count, .dtype = dtype, .op = op};
    comm->backend->ops->explain(comm->backend, &request, registered != 0, &value);
    return give("choice", choice, sizeof value, &value);
}

const char *onehop_algorithm_name(onehop_device_t device, int index) {
    if (index < 0) return NULL;
    if (device == ONEHOP_DEVICE_CUDA) return index < OH_DEVICE_ALGORITHMS ? oh_device_algorithms[index].name : NULL;
    return device == ONEHOP_DEVICE_HOST && index < OH_ALGORITHMS ? oh_algorithms[index].name : NULL;
}

const char *onehop_algorithm_description(onehop_device_t device, int index) {
    if (onehop_algorithm_name(device, index) == NULL) return NULL;
    return device == ONEHOP_DEVICE_CUDA ? oh_device_algorithms[index].description : oh_algorithms[index].description;
}
