/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

enum { STAGING = 1 << 20 };

bool rank_gpu(rank_t *rank, bool good) { return good || rank_fail(rank, "%s", gpu_error()); }

bool device_open(rank_t *rank, int index) {
    return rank_gpu(rank, (rank->gpu = gpu_open(index)) != NULL) &&
           rank_gpu(rank, (rank->staging = gpu_alloc(rank->gpu, STAGING)) != NULL);
}

bool device_enter(rank_t *rank) {
    onehop_comm_info_t info = {.size = sizeof info};
    if (!rank_try(rank, onehop_comm_get_info(rank->comm, &info))) return false;
    if (info.device != ONEHOP_DEVICE_CUDA) {
        device_leave(rank);
        return true;
    }
    bool good = rank->gpu != NULL ? rank_gpu(rank, gpu_enter(rank->gpu)) : device_open(rank, info.device_index);
    return good && rank_meet(rank);
}

void device_leave(rank_t *rank) {
    if (rank->gpu == NULL) return;
    gpu_free(rank->gpu, rank->staging);
    gpu_close(rank->gpu);
    rank->gpu = NULL;
}

bool rank_settle(rank_t *rank) {
    if (rank->gpu == NULL) return true;
    bool good = gpu_synchronize(rank->gpu);
    onehop_result_t error = ONEHOP_SUCCESS;
    return rank_try(rank, onehop_comm_get_async_error(rank->comm, &error)) && rank_try(rank, error) &&
           rank_gpu(rank, good);
}

static bool reduce_piece(rank_t *rank, void *buffer, size_t count, onehop_dtype_t dtype, onehop_op_t op) {
    size_t bytes = count * onehop_dtype_size(dtype);
    return rank_gpu(rank, gpu_upload(rank->gpu, rank->staging, buffer, bytes)) &&
           rank_try(rank, onehop_all_reduce(rank->staging, rank->staging, count, dtype, op, rank->comm,
                                            gpu_stream(rank->gpu))) &&
           rank_settle(rank) && rank_gpu(rank, gpu_download(rank->gpu, buffer, rank->staging, bytes));
}

bool rank_all_reduce_host(rank_t *rank, void *buffer, size_t count, onehop_dtype_t dtype, onehop_op_t op) {
    if (rank->gpu == NULL) return rank_try(rank, onehop_all_reduce(buffer, buffer, count, dtype, op, rank->comm, NULL));
    size_t size = onehop_dtype_size(dtype), most = STAGING / size, done = 0;
    do {
        size_t piece = count - done < most ? count - done : most;
        if (!reduce_piece(rank, (char *)buffer + done * size, piece, dtype, op)) return false;
        done += piece;
    } while (done < count);
    return true;
}
