/* SPDX-License-Identifier: Apache-2.0 */
/* How a failure travels through the mesh, and who is named for it. */
#include <string.h>

#include "base/status.h"
#include "bootstrap/mesh_peer.h"
#include "bootstrap/sock.h"

enum { DYING_MS = 20 };

onehop_result_t oh_mesh_tell_one(int socket, onehop_result_t code) {
    const char *text = onehop_last_error();
    oh_exchange_t exchange = oh_exchange_make("", strlen(text), false);
    oh_message_t message = oh_message_make(OH_MESSAGE_FAILURE, (int)code, &exchange);
    /* Best effort: who cannot be told notices when this rank hangs up. */
    (void)oh_message_send(socket, &message, text, -1);
    return code;
}

onehop_result_t oh_mesh_tell(oh_mesh_t *mesh, onehop_result_t code) {
    for (int r = 0; r < mesh->nranks; r++) {
        if (mesh->peers[r].socket >= 0) oh_mesh_tell_one(mesh->peers[r].socket, code);
    }
    return code;
}

onehop_result_t oh_mesh_told(const oh_message_t *message, const unsigned char *text) {
    return oh_fail((onehop_result_t)message->code, "%.*s", (int)message->exchange.bytes, (const char *)text);
}

/* What a peer gave as its failure: ONEHOP_SUCCESS if it gave none. */
static onehop_result_t last_words(const oh_mesh_t *mesh, int rank) {
    int socket = mesh->peers[rank].socket, fd;
    oh_message_t message;
    unsigned char bytes[OH_EXCHANGE_MAX];
    while (socket >= 0 && oh_message_receive(socket, &message, bytes, &fd) == OH_DELIVERY_DONE) {
        oh_close(&fd);
        if (message.kind == OH_MESSAGE_FAILURE) return oh_mesh_told(&message, bytes);
    }
    return ONEHOP_SUCCESS;
}

/* Who has hung up will say no more than it has said. */
static bool anyone_speaks(const oh_mesh_t *mesh, bool *silent, int64_t deadline) {
    struct pollfd entries[ONEHOP_MAX_RANKS];
    for (int r = 0; r < mesh->nranks; r++) {
        entries[r] = (struct pollfd){.fd = silent[r] ? -1 : mesh->peers[r].socket, .events = POLLIN};
    }
    if (oh_poll_until(entries, (size_t)mesh->nranks, deadline) <= 0) return false;
    for (int r = 0; r < mesh->nranks; r++) silent[r] = silent[r] || (entries[r].revents & (POLLHUP | POLLERR)) != 0;
    return true;
}

onehop_result_t oh_mesh_hear_why(const oh_mesh_t *mesh, int ms) {
    const int64_t deadline = oh_deadline_in(ms);
    bool silent[ONEHOP_MAX_RANKS] = {false};
    do {
        for (int r = 0; r < mesh->nranks; r++) OH_TRY(last_words(mesh, r));
    } while (anyone_speaks(mesh, silent, deadline));
    return ONEHOP_SUCCESS;
}

static bool has_ended(const oh_peer_t *peer, int ms) {
    struct pollfd entry = {.fd = peer->process, .events = POLLIN};
    return peer->ended || (peer->process >= 0 && oh_poll_until(&entry, 1, oh_deadline_in(ms)) > 0);
}

/* Of the ranks whose process has ended: the lost one if it is among them, else the first; else the lost one. */
static int find_culprit(const oh_mesh_t *mesh, int lost) {
    /* A process that dies hangs up a moment before it is seen to have ended. */
    if (has_ended(&mesh->peers[lost], DYING_MS)) return lost;
    for (int r = 0; r < mesh->nranks; r++) {
        if (has_ended(&mesh->peers[r], 0)) return r;
    }
    return lost;
}

/*
 * The lost rank may have left because it found another lost. If anyone has said why it failed, that is the reason; else
 * a rank whose process has ended is a better guess than one that has merely hung up.
 */
onehop_result_t oh_mesh_lost(const oh_mesh_t *mesh, int lost, const char *when) {
    for (int r = 0; r < mesh->nranks; r++) OH_TRY(last_words(mesh, r));
    int culprit = find_culprit(mesh, lost);
    return oh_fail(ONEHOP_PEER_LOST, "rank %d (pid %d) has died or left; it was needed for %s", culprit,
                   (int)mesh->peers[culprit].pid, when);
}
