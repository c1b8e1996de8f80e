/* SPDX-License-Identifier: Apache-2.0 */
/* A communicator, as one rank holds it: how ranks met, and the device that does the work. */
#ifndef OH_COMM_H
#define OH_COMM_H

#include <stdatomic.h>

#include "backend/backend.h"

struct onehop_comm {
    oh_config_t config;
    oh_bootstrap_t *bootstrap;
    oh_backend_t *backend;
    atomic_bool busy;    /* a thread is inside a call */
    unsigned char *here; /* one page, 1 in the process that made the communicator; fork gives the child zeros */
};

/* Collective. group: NULL, or the ranks of one process. */
onehop_result_t oh_comm_open(const oh_config_t *config, oh_local_group_t *group, onehop_comm_t **out);
void oh_comm_close(onehop_comm_t *comm);

static inline bool oh_comm_forked(const onehop_comm_t *comm) { return *comm->here == 0; }

#endif
