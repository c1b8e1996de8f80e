/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh as its two halves see it: mesh_connect.c, which builds it, and mesh.c, which uses it. */
#ifndef OH_BOOTSTRAP_MESH_PEER_H
#define OH_BOOTSTRAP_MESH_PEER_H

#include "bootstrap/mesh.h"
#include "bootstrap/mesh_message.h"

typedef struct oh_peer {
    int socket;
    int process; /* a pidfd: ready once the process has ended, even if a child of it holds its sockets; or -1 */
    pid_t pid;   /* as seen from here */

    /* Of the exchange in progress. */
    bool sent, crowded;     /* crowded: it cannot be sent yet, though the socket is ready */
    bool received;          /* what it has come with */
    bool ahead;             /* it has gone on to the next exchange, or left */
    oh_exchange_t exchange; /* what it has come for */
} oh_peer_t;

struct oh_mesh {
    oh_transport_t transport;
    int rank, nranks;
    int listener; /* -1 once all are connected */
    oh_peer_t peers[ONEHOP_MAX_RANKS];
};

/* PEER_LOST. `when` ends the sentence: "it was needed for ...". */
onehop_result_t oh_mesh_lost(const oh_mesh_t *mesh, int rank, const char *when);

/* Passes the last error on to all peers that can be reached. Returns `code`. */
onehop_result_t oh_mesh_tell(oh_mesh_t *mesh, onehop_result_t code);

/* A failure that a peer passed on, as this rank's own. */
onehop_result_t oh_mesh_told(const oh_message_t *message, const unsigned char *text);

#endif
