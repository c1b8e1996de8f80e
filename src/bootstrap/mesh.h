/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Unix socket between every two ranks, each a process. Messages keep their boundaries (SOCK_SEQPACKET), so that one
 * read is one message with its descriptor.
 *
 * A rank that fails tells its peers why before it hangs up, so that all name the same culprit.
 */
#ifndef OH_BOOTSTRAP_MESH_H
#define OH_BOOTSTRAP_MESH_H

#include "bootstrap/sock.h"
#include "bootstrap/transport.h"

typedef struct oh_mesh oh_mesh_t;

/* Begins to listen, under a random name, and writes on the card how it can be reached. */
onehop_result_t oh_mesh_open(oh_card_t *mine, oh_mesh_t **out);

/* Connects to all ranks, and returns once all are connected. */
onehop_result_t oh_mesh_connect(oh_mesh_t *mesh, const oh_card_t *cards, int rank, int nranks,
                                const oh_time_limit_t *limit);

void oh_mesh_close(oh_mesh_t *mesh);
oh_transport_t *oh_mesh_transport(oh_mesh_t *mesh);

#endif
