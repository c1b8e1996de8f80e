/* SPDX-License-Identifier: Apache-2.0 */
/* What a device must be able to do. Arguments have been checked, and the communicator is not broken, when these are
 * called. */
#ifndef OH_BACKEND_BACKEND_H
#define OH_BACKEND_BACKEND_H

#include "base/config.h"
#include "bootstrap/bootstrap.h"
#include "plan.h"

typedef struct oh_backend oh_backend_t;

typedef struct oh_backend_ops {
    onehop_result_t (*run)(oh_backend_t *backend, const oh_request_t *request);
    onehop_result_t (*alloc)(oh_backend_t *backend, size_t bytes, void **ptr);
    onehop_result_t (*free)(oh_backend_t *backend, void *ptr);
    onehop_result_t (*enroll)(oh_backend_t *backend, void *ptr, size_t bytes); /* onehop_register */
    onehop_result_t (*dismiss)(oh_backend_t *backend, void *ptr);              /* onehop_deregister */
    onehop_result_t (*graph_register)(oh_backend_t *backend);
    void (*explain)(const oh_backend_t *backend, const oh_request_t *request, bool registered, onehop_choice_t *choice);
    void (*describe)(const oh_backend_t *backend, onehop_comm_info_t *info);

    /* From any thread. What has broken the communicator, looking for dead peers first; and break it. */
    onehop_result_t (*status)(oh_backend_t *backend);
    void (*abort)(oh_backend_t *backend);

    /* `forked`: in a child made by fork, which must leave no trace in shared memory. */
    void (*close)(oh_backend_t *backend, bool forked);
} oh_backend_ops_t;

struct oh_backend {
    const oh_backend_ops_t *ops;
};

/* Collective. Uses `bootstrap` until it is closed, and does not own it. */
onehop_result_t oh_host_open(const oh_config_t *config, oh_bootstrap_t *bootstrap, oh_backend_t **out);
onehop_result_t oh_gpu_open(const oh_config_t *config, oh_bootstrap_t *bootstrap, oh_backend_t **out);

/* Whether there is a GPU that this process can use. */
bool oh_gpu_present(void);

#endif
