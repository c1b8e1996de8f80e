/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/mesh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/mesh_peer.h"
#include "bootstrap/sock.h"

enum { CROWDED_PAUSE_MS = 1, CONFER_MS = 50 };

static oh_mesh_t *mesh_of(oh_transport_t *transport) { return (oh_mesh_t *)(void *)transport; }

oh_transport_t *oh_mesh_transport(oh_mesh_t *mesh) { return &mesh->transport; }

/* ---- an exchange ---- */

/* One exchange under way: what this rank gives, where what comes goes. */
typedef struct round {
    oh_mesh_t *mesh;
    oh_exchange_t exchange;
    const void *mine;
    int fd;
    unsigned char *all; /* NULL if no bytes are exchanged */
    int *fds;           /* NULL if no descriptors are */
    int64_t deadline;
    const oh_patience_t *patience;
    char when[48]; /* for errors */
} round_t;

static round_t make_round(oh_mesh_t *mesh, const oh_exchange_t *exchange, const oh_patience_t *patience) {
    round_t round = {.mesh = mesh,
                     .exchange = *exchange,
                     .fd = -1,
                     .deadline = oh_deadline_in(patience->timeout_ms),
                     .patience = patience};
    snprintf(round.when, sizeof round.when, "\"%s\"", exchange->what);
    return round;
}

static onehop_result_t lost(const round_t *round, int rank) {
    /* A rank that broke the communicator may have left already: what it broke it with is the better answer. */
    OH_TRY(oh_patience_ask(round->patience));
    return oh_mesh_tell(round->mesh, oh_mesh_lost(round->mesh, rank, round->when));
}

static void send_to(const round_t *round, oh_peer_t *peer) {
    oh_message_t message = oh_message_make(OH_MESSAGE_DATA, 0, &round->exchange);
    oh_delivery_t outcome = oh_message_send(peer->socket, &message, round->mine, round->fd);
    peer->crowded = outcome == OH_DELIVERY_CROWDED;
    /* Who has hung up may still have said all that is needed of it, so only receiving decides. */
    peer->sent = outcome == OH_DELIVERY_DONE || outcome == OH_DELIVERY_CLOSED;
}

/* ended: the peer's process was seen to have ended, so that nothing can come that is not here. */
static onehop_result_t receive_from(const round_t *round, int rank, bool ended) {
    oh_peer_t *peer = &round->mesh->peers[rank];
    oh_message_t message;
    unsigned char bytes[OH_EXCHANGE_MAX];
    int fd;
    oh_delivery_t outcome = oh_message_receive(peer->socket, &message, bytes, &fd);
    if (outcome == OH_DELIVERY_LATER) return ended ? lost(round, rank) : ONEHOP_SUCCESS;
    if (outcome == OH_DELIVERY_NO_ROOM) {
        errno = EMFILE;
        return oh_mesh_tell(round->mesh, oh_fail_errno("rank %d cannot receive the descriptor of rank %d in %s",
                                                       round->mesh->rank, rank, round->when));
    }
    if (outcome != OH_DELIVERY_DONE) return lost(round, rank);
    if (message.kind == OH_MESSAGE_FAILURE) {
        oh_close(&fd);
        OH_TRY(oh_patience_ask(round->patience));
        return oh_mesh_tell(round->mesh, oh_mesh_told(&message, bytes));
    }
    peer->received = true;
    peer->exchange = message.exchange;
    bool same = oh_exchange_equal(&message.exchange, &round->exchange);
    if (same && round->all != NULL)
        memcpy(round->all + (size_t)rank * message.exchange.bytes, bytes, message.exchange.bytes);
    if (same && round->fds != NULL) {
        round->fds[rank] = fd;
    } else {
        oh_close(&fd);
    }
    return ONEHOP_SUCCESS;
}

/* A peer that has brought its part may still fail for want of another's. What else it says is for the next exchange. */
static onehop_result_t hear_more(const round_t *round, int rank) {
    oh_peer_t *peer = &round->mesh->peers[rank];
    if (oh_message_is_failure(peer->socket)) return receive_from(round, rank, false);
    peer->ahead = true;
    return ONEHOP_SUCCESS;
}

/*
 * If several are missing, they may themselves be waiting, in the exchange before this one, for one that has brought its
 * part to this rank and not to them. Their time is up as well, or was, and they know better.
 */
static onehop_result_t late(const round_t *round) {
    const oh_mesh_t *mesh = round->mesh;
    bool missing[ONEHOP_MAX_RANKS] = {false};
    char ranks[OH_RANKS_TEXT], process[24] = "";
    int count = 0;
    for (int r = 0; r < mesh->nranks; r++) {
        missing[r] = r != mesh->rank && !(mesh->peers[r].received && mesh->peers[r].sent);
        if (!missing[r]) continue;
        count++;
        snprintf(process, sizeof process, " (pid %d)", (int)mesh->peers[r].pid);
    }
    onehop_result_t told = count > 1 ? oh_mesh_hear_why(mesh, CONFER_MS) : ONEHOP_SUCCESS;
    if (told != ONEHOP_SUCCESS) return oh_mesh_tell(round->mesh, told);
    oh_ranks_text(missing, mesh->nranks, ranks);
    return oh_mesh_tell(round->mesh,
                        oh_fail(ONEHOP_TIMEOUT, "%s%s of %d did not come to %s within %d ms", ranks,
                                count == 1 ? process : "", mesh->nranks, round->when, round->patience->timeout_ms));
}

/* What to wait for from each peer: entries[2r] is its socket, entries[2r+1] its process. */
static void expect(const oh_mesh_t *mesh, struct pollfd *entries) {
    for (int r = 0; r < mesh->nranks; r++) {
        const oh_peer_t *peer = &mesh->peers[r];
        bool idle = r == mesh->rank || (peer->sent && peer->ahead);
        short events = (short)((peer->ahead ? 0 : POLLIN) | (peer->sent || peer->crowded ? 0 : POLLOUT));
        entries[2 * r] = (struct pollfd){.fd = idle ? -1 : peer->socket, .events = events};
        entries[2 * r + 1] = (struct pollfd){.fd = peer->received ? -1 : peer->process, .events = POLLIN};
    }
}

static onehop_result_t receive_all(const round_t *round, const struct pollfd *entries) {
    for (int r = 0; r < round->mesh->nranks; r++) {
        const oh_peer_t *peer = &round->mesh->peers[r];
        bool ready = entries[2 * r].revents != 0, ended = entries[2 * r + 1].revents != 0;
        if (!peer->received) {
            if (ready || ended) OH_TRY(receive_from(round, r, ended));
        } else if (ready && !peer->ahead) {
            OH_TRY(hear_more(round, r));
        }
    }
    return ONEHOP_SUCCESS;
}

/* Returns whether descriptors are held back, to be tried again soon: nothing tells when. */
static bool send_all(const round_t *round, const struct pollfd *entries) {
    bool crowded = false;
    for (int r = 0; r < round->mesh->nranks; r++) {
        oh_peer_t *peer = &round->mesh->peers[r];
        if (r == round->mesh->rank || peer->sent) continue;
        /* The crowd is the user's, not the peer's: who meets it need not try the others. */
        if (!crowded && (entries == NULL || peer->crowded || entries[2 * r].revents != 0)) send_to(round, peer);
        crowded = crowded || peer->crowded;
    }
    return crowded;
}

static bool finished(const oh_mesh_t *mesh) {
    for (int r = 0; r < mesh->nranks; r++) {
        if (r != mesh->rank && !(mesh->peers[r].sent && mesh->peers[r].received)) return false;
    }
    return true;
}

/* Each rank compares all with rank 0's, so that all find the same. */
static onehop_result_t compare(const round_t *round) {
    oh_mesh_t *mesh = round->mesh;
    mesh->peers[mesh->rank].exchange = round->exchange;
    for (int r = 1; r < mesh->nranks; r++) {
        const oh_exchange_t *first = &mesh->peers[0].exchange, *other = &mesh->peers[r].exchange;
        if (!oh_exchange_equal(first, other)) return oh_exchange_mismatch(0, first, r, other);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t run(const round_t *round) {
    oh_mesh_t *mesh = round->mesh;
    for (int r = 0; r < mesh->nranks; r++) {
        oh_peer_t *peer = &mesh->peers[r];
        peer->sent = peer->crowded = peer->received = peer->ahead = false;
    }
    bool crowded = send_all(round, NULL);
    while (!finished(mesh)) {
        OH_TRY(oh_patience_ask(round->patience));
        if (oh_now_ns() >= round->deadline) return late(round);
        struct pollfd entries[2 * ONEHOP_MAX_RANKS];
        expect(mesh, entries);
        int64_t end = oh_deadline_in(crowded ? CROWDED_PAUSE_MS : OH_WAIT_SLICE_MS);
        if (end > round->deadline) end = round->deadline;
        if (oh_poll_until(entries, 2 * (size_t)mesh->nranks, end) < 0) {
            return oh_mesh_tell(mesh, oh_fail_errno("poll"));
        }
        crowded = send_all(round, entries);
        OH_TRY(receive_all(round, entries));
    }
    /* All have brought their part, but who gave up waiting for this rank has said so. */
    for (int r = 0; r < mesh->nranks; r++) {
        if (r != mesh->rank && !mesh->peers[r].ahead) OH_TRY(hear_more(round, r));
    }
    return compare(round);
}

static onehop_result_t allgather(oh_transport_t *transport, const char *what, const void *mine, void *all,
                                 size_t bytes_each, const oh_patience_t *patience) {
    oh_mesh_t *mesh = mesh_of(transport);
    oh_exchange_t exchange = oh_exchange_make(what, bytes_each, false);
    round_t round = make_round(mesh, &exchange, patience);
    round.mine = mine;
    round.all = all;
    memcpy(round.all + (size_t)mesh->rank * bytes_each, mine, bytes_each);
    return run(&round);
}

onehop_result_t oh_mesh_meet(oh_mesh_t *mesh, const char *what, const oh_time_limit_t *limit) {
    const oh_patience_t patience = {.timeout_ms = limit->timeout_ms};
    oh_exchange_t exchange = oh_exchange_make(what, 0, false);
    round_t round = make_round(mesh, &exchange, &patience);
    round.deadline = limit->deadline;
    return run(&round);
}

/*
 * In two rounds: nobody goes on, perhaps to send more descriptors, before all have received these. How many a user may
 * have on their way at once is limited, and those sent ahead could keep for ever out what others still wait for.
 */
static onehop_result_t exchange_fd(oh_transport_t *transport, const char *what, int fd, int *fds,
                                   const oh_patience_t *patience) {
    oh_mesh_t *mesh = mesh_of(transport);
    oh_exchange_t exchange = oh_exchange_make(what, 0, true);
    round_t round = make_round(mesh, &exchange, patience);
    round.fd = fd;
    round.fds = fds;
    for (int r = 0; r < mesh->nranks; r++) fds[r] = -1;
    onehop_result_t result = run(&round);
    if (result == ONEHOP_SUCCESS) {
        round.exchange.descriptor = 0;
        round.fd = -1;
        round.fds = NULL;
        result = run(&round);
    }
    for (int r = 0; result != ONEHOP_SUCCESS && r < mesh->nranks; r++) oh_close(&fds[r]);
    return result;
}

/* ---- the rest of the interface ---- */

/* Reads nothing but descriptors that do not change while the mesh stands: any thread may call it. */
static int count_gone(oh_transport_t *transport, bool *gone) {
    const oh_mesh_t *mesh = mesh_of(transport);
    struct pollfd entries[2 * ONEHOP_MAX_RANKS];
    for (int r = 0; r < mesh->nranks; r++) {
        entries[2 * r] = (struct pollfd){.fd = mesh->peers[r].socket, .events = POLLRDHUP};
        entries[2 * r + 1] = (struct pollfd){.fd = mesh->peers[r].process, .events = POLLIN};
        gone[r] = false;
    }
    if (oh_poll_until(entries, 2 * (size_t)mesh->nranks, 0) <= 0) return 0;
    int count = 0;
    for (int r = 0; r < mesh->nranks; r++) {
        gone[r] = entries[2 * r].revents != 0 || entries[2 * r + 1].revents != 0;
        count += gone[r];
    }
    return count;
}

static pid_t pid_of(const oh_transport_t *transport, int rank) {
    return ((const oh_mesh_t *)(const void *)transport)->peers[rank].pid;
}

static void close_transport(oh_transport_t *transport) { oh_mesh_close(mesh_of(transport)); }

/* Closes and no more: in a child made by fork these are copies, whose originals the peers still talk to. */
void oh_mesh_close(oh_mesh_t *mesh) {
    oh_close(&mesh->listener);
    for (int r = 0; r < ONEHOP_MAX_RANKS; r++) {
        oh_close(&mesh->peers[r].socket);
        oh_close(&mesh->peers[r].process);
    }
    free(mesh);
}

static onehop_result_t listen_on(const char *name, int *out) {
    struct sockaddr_un address;
    socklen_t length = oh_unix_address(name, &address);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return oh_fail_errno("socket");
    if (bind(fd, (const struct sockaddr *)(const void *)&address, length) != 0 ||
        listen(fd, 2 * ONEHOP_MAX_RANKS) != 0) {
        onehop_result_t result = oh_fail_errno("cannot listen on the Unix socket %s", name);
        close(fd);
        return result;
    }
    *out = fd;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_mesh_open(oh_card_t *mine, oh_mesh_t **out) {
    static const oh_transport_ops_t ops = {allgather, exchange_fd, count_gone, pid_of, close_transport};
    unsigned char name[OH_CARD_NONCE_BYTES];
    OH_TRY(oh_random(name, sizeof name));
    OH_TRY(oh_random(mine->nonce, sizeof mine->nonce));
    int length = snprintf(mine->contact, sizeof mine->contact, "@onehop-");
    for (size_t i = 0; i < sizeof name; i++) {
        length += snprintf(mine->contact + length, sizeof mine->contact - (size_t)length, "%02x", name[i]);
    }
    oh_mesh_t *mesh = calloc(1, sizeof *mesh);
    if (mesh == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    mesh->transport.ops = &ops;
    mesh->listener = -1;
    for (int r = 0; r < ONEHOP_MAX_RANKS; r++) mesh->peers[r].socket = mesh->peers[r].process = -1;
    onehop_result_t result = listen_on(mine->contact, &mesh->listener);
    if (result != ONEHOP_SUCCESS) {
        oh_mesh_close(mesh);
        return result;
    }
    *out = mesh;
    return ONEHOP_SUCCESS;
}
