/* SPDX-License-Identifier: Apache-2.0 */
#include "comm.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "arena/layout.h"
#include "base/status.h"
#include "select/device.h"
#include "select/select.h"

/* A page that fork wipes in the child tells parent from child without a system call. */
static onehop_result_t mark_process(onehop_comm_t *comm) {
    void *page = mmap(NULL, OH_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return oh_fail_errno("cannot map a page");
    comm->here = page;
    if (madvise(page, OH_PAGE, MADV_WIPEONFORK) != 0) return oh_fail_errno("madvise(MADV_WIPEONFORK)");
    *comm->here = 1;
    return ONEHOP_SUCCESS;
}

/* What AUTO stands for, and mistakes of this rank alone: to be told before the others are met. */
static onehop_result_t settle_device(oh_config_t *config) {
    if (config->device == ONEHOP_DEVICE_AUTO) {
        bool gpu = config->nranks <= OH_GPU_RANKS && oh_gpu_present();
        config->device = gpu ? ONEHOP_DEVICE_CUDA : ONEHOP_DEVICE_HOST;
    }
    if (config->device == ONEHOP_DEVICE_HOST) {
        oh_forced_t forced;
        return oh_forced_parse(config->algorithm, &forced);
    }
    if (config->nranks > OH_GPU_RANKS) {
        return oh_fail(ONEHOP_UNSUPPORTED, "nranks is %d: expected at most %d on GPUs", config->nranks, OH_GPU_RANKS);
    }
    oh_device_forced_t forced;
    return oh_device_forced_parse(config->algorithm, &forced);
}

static onehop_result_t open_parts(onehop_comm_t *comm, oh_local_group_t *group) {
    OH_TRY(mark_process(comm));
    OH_TRY(settle_device(&comm->config));
    OH_TRY(group == NULL ? oh_bootstrap_open(&comm->config, &comm->bootstrap)
                         : oh_bootstrap_open_local(&comm->config, group, &comm->bootstrap));
    bool host = comm->config.device == ONEHOP_DEVICE_HOST;
    return (host ? oh_host_open : oh_gpu_open)(&comm->config, comm->bootstrap, &comm->backend);
}

onehop_result_t oh_comm_open(const oh_config_t *config, oh_local_group_t *group, onehop_comm_t **out) {
    onehop_comm_t *comm = calloc(1, sizeof *comm);
    if (comm == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    comm->config = *config;
    onehop_result_t result = open_parts(comm, group);
    if (result != ONEHOP_SUCCESS) {
        oh_comm_close(comm);
        return result;
    }
    *out = comm;
    return ONEHOP_SUCCESS;
}

void oh_comm_close(onehop_comm_t *comm) {
    if (comm->backend != NULL) comm->backend->ops->close(comm->backend, oh_comm_forked(comm));
    if (comm->bootstrap != NULL) oh_bootstrap_close(comm->bootstrap);
    if (comm->here != NULL) munmap(comm->here, OH_PAGE);
    free(comm);
}
