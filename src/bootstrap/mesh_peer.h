/* SPDX-License-Identifier: Apache-2.0 */
/* The mesh from within: mesh_connect.c builds it, mesh.c uses it, mesh_failure.c says why it broke. */
#ifndef OH_BOOTSTRAP_MESH_PEER_H
#define OH_BOOTSTRAP_MESH_PEER_H

#include "bootstrap/mesh.h"
#include "bootstrap/mesh_message.h"

typedef struct oh_peer {
    int socket;
    int process; /* a pidfd: ready once the process has ended, even if a child of it holds its sockets; or -1 */
    bool ended;  /* its process was gone before it could be watched */
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

/* Returns once all ranks have called it, with the same word. */
onehop_result_t oh_mesh_meet(oh_mesh_t *mesh, const char *what, const oh_time_limit_t *limit);

/*
 * Why a rank that has hung up is not there: what a peer gave as its failure, else PEER_LOST. `when` ends the sentence:
 * "it was needed for ...". What the peers have sent is used up.
 */
onehop_result_t oh_mesh_lost(const oh_mesh_t *mesh, int lost, const char *when);

/* Passes the last error on, to all peers or to one socket, as far as they can be reached. Returns `code`. */
onehop_result_t oh_mesh_tell(oh_mesh_t *mesh, onehop_result_t code);
onehop_result_t oh_mesh_tell_one(int socket, onehop_result_t code);

/*
 * What another rank gives as its failure within `ms`; ONEHOP_SUCCESS if none does. What else comes is thrown away: this
 * rank has failed.
 */
onehop_result_t oh_mesh_hear_why(const oh_mesh_t *mesh, int ms);

/* A failure that a peer passed on, as this rank's own. */
onehop_result_t oh_mesh_told(const oh_message_t *message, const unsigned char *text);

#endif
