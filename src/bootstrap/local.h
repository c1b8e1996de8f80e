/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that are threads of one process: they meet in shared memory, under a mutex. */
#ifndef OH_BOOTSTRAP_LOCAL_H
#define OH_BOOTSTRAP_LOCAL_H

#include "bootstrap/transport.h"

/* Joins the group (oh_local_group_create) as `rank`. */
onehop_result_t oh_local_open(oh_local_group_t *group, int rank, oh_transport_t **out);

#endif
