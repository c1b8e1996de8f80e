/* SPDX-License-Identifier: Apache-2.0 */
/* How the mesh comes to be: each rank calls those before it, and lets those after it in. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/mesh_peer.h"
#include "bootstrap/sock.h"

static const char when_connecting[] = "connecting all ranks";

/* Callers who have not yet said who they are. Anyone on the machine can call, so their number is bounded. */
enum { VISITORS_MAX = 2 * ONEHOP_MAX_RANKS };

typedef struct gathering {
    oh_mesh_t *mesh;
    const oh_card_t *cards;
    int lost;                   /* the first rank found to be lost; -1: none */
    int visitors[VISITORS_MAX]; /* oldest first */
    int visitor_count;
} gathering_t;

static void set_lost(gathering_t *g, int rank) {
    if (g->lost < 0) g->lost = rank;
}

/* Opens peer->process for peer->pid, if the kernel can. */
static onehop_result_t watch(gathering_t *g, int rank) {
    oh_peer_t *peer = &g->mesh->peers[rank];
    if (peer->process >= 0 || peer->pid <= 0) return ONEHOP_SUCCESS;
    peer->process = (int)syscall(SYS_pidfd_open, peer->pid, 0);
    if (peer->process >= 0) return ONEHOP_SUCCESS;
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
        return oh_fail_errno("cannot watch the process of rank %d: pidfd_open", rank);
    }
    if (errno == ESRCH) {
        peer->ended = true;
        set_lost(g, rank);
    } /* else an old kernel, or a sandbox that forbids it: its socket will tell */
    return ONEHOP_SUCCESS;
}

static bool is_ours(int socket, struct ucred *owner) {
    return oh_socket_owner(socket, owner) && owner->uid == geteuid();
}

/* ---- calling ---- */

/* Sets *refused if nobody listens there any more. */
static onehop_result_t connect_to(const gathering_t *g, int rank, int socket, int64_t deadline, bool *refused) {
    struct sockaddr_un address;
    socklen_t length = oh_unix_address(g->cards[rank].contact, &address);
    *refused = false;
    while (connect(socket, (const struct sockaddr *)(const void *)&address, length) != 0) {
        if (errno == EINTR) continue;
        if (errno == ECONNREFUSED) {
            *refused = true;
            return ONEHOP_SUCCESS;
        }
        if (errno != EAGAIN) return oh_fail_errno("cannot connect to rank %d at %s", rank, g->cards[rank].contact);
        /* Strangers fill its queue, for now. */
        if (oh_ms_until(deadline) == 0) {
            return oh_fail(ONEHOP_TIMEOUT, "rank %d (pid %d) did not accept a connection in time", rank,
                           g->cards[rank].pid);
        }
        oh_pause_ms(1, deadline);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t call(gathering_t *g, int rank, int64_t deadline) {
    oh_mesh_t *mesh = g->mesh;
    oh_peer_t *peer = &mesh->peers[rank];
    peer->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (peer->socket < 0) return oh_fail_errno("socket");
    bool refused;
    OH_TRY(connect_to(g, rank, peer->socket, deadline, &refused));
    if (refused) {
        oh_close(&peer->socket);
        set_lost(g, rank);
        return ONEHOP_SUCCESS;
    }
    struct ucred owner;
    if (!is_ours(peer->socket, &owner)) {
        return oh_fail(ONEHOP_SYSTEM_ERROR, "the socket of rank %d, %s, belongs to another user", rank,
                       g->cards[rank].contact);
    }
    peer->pid = owner.pid;
    oh_exchange_t exchange = oh_exchange_make("hello", OH_CARD_NONCE_BYTES, false);
    oh_message_t hello = oh_message_make(OH_MESSAGE_HELLO, mesh->rank, &exchange);
    if (oh_message_send(peer->socket, &hello, g->cards[mesh->rank].nonce, -1) != OH_DELIVERY_DONE) set_lost(g, rank);
    return ONEHOP_SUCCESS;
}

/* ---- letting in ---- */

static void dismiss(gathering_t *g, int index) {
    g->visitor_count--;
    memmove(&g->visitors[index], &g->visitors[index + 1], (size_t)(g->visitor_count - index) * sizeof g->visitors[0]);
}

static void drop_oldest(gathering_t *g) {
    close(g->visitors[0]);
    dismiss(g, 0);
}

/* One at a time, so that nobody is dropped for newcomers before there was time to hear it. */
static onehop_result_t accept_visitor(gathering_t *g) {
    int socket = accept4(g->mesh->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred owner;
    if (socket < 0) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return ONEHOP_SUCCESS;
        if ((errno != EMFILE && errno != ENFILE) || g->visitor_count == 0) return oh_fail_errno("accept");
        drop_oldest(g);
    } else if (!is_ours(socket, &owner)) {
        close(socket);
    } else {
        if (g->visitor_count == VISITORS_MAX) drop_oldest(g);
        g->visitors[g->visitor_count++] = socket;
    }
    return ONEHOP_SUCCESS;
}

/* The rank that the message proves its sender to be, or -1. */
static int recognize(const gathering_t *g, const oh_message_t *message, const unsigned char *bytes) {
    int rank = message->code;
    if (message->kind != OH_MESSAGE_HELLO || message->exchange.bytes != OH_CARD_NONCE_BYTES) return -1;
    if (rank <= g->mesh->rank || rank >= g->mesh->nranks || g->mesh->peers[rank].socket >= 0) return -1;
    return memcmp(bytes, g->cards[rank].nonce, OH_CARD_NONCE_BYTES) == 0 ? rank : -1;
}

/* Hears what visitor `index` has to say; it becomes a peer, is shown out, or stays a visitor. */
static onehop_result_t hear(gathering_t *g, int index) {
    int socket = g->visitors[index], fd;
    oh_message_t message;
    unsigned char bytes[OH_EXCHANGE_MAX];
    oh_delivery_t outcome = oh_message_receive(socket, &message, bytes, &fd);
    oh_close(&fd);
    if (outcome == OH_DELIVERY_LATER) return ONEHOP_SUCCESS;
    dismiss(g, index);
    int rank = outcome == OH_DELIVERY_DONE ? recognize(g, &message, bytes) : -1;
    struct ucred owner;
    if (rank < 0 || !oh_socket_owner(socket, &owner)) {
        close(socket);
        return ONEHOP_SUCCESS;
    }
    g->mesh->peers[rank].socket = socket;
    g->mesh->peers[rank].pid = owner.pid;
    return watch(g, rank);
}

/* ---- until all are connected ---- */

/* Waits for news: visitors, what they say, and the loss of a rank. */
static onehop_result_t receive_visitors(gathering_t *g, int64_t deadline) {
    oh_mesh_t *mesh = g->mesh;
    struct pollfd entries[1 + 2 * ONEHOP_MAX_RANKS + VISITORS_MAX];
    struct pollfd *sockets = entries + 1, *processes = sockets + mesh->nranks, *visitors = processes + mesh->nranks;
    entries[0] = (struct pollfd){.fd = mesh->listener, .events = POLLIN};
    for (int r = 0; r < mesh->nranks; r++) {
        sockets[r] = (struct pollfd){.fd = mesh->peers[r].socket, .events = POLLRDHUP};
        processes[r] = (struct pollfd){.fd = mesh->peers[r].process, .events = POLLIN};
    }
    for (int i = 0; i < g->visitor_count; i++) visitors[i] = (struct pollfd){.fd = g->visitors[i], .events = POLLIN};
    size_t count = 1 + 2 * (size_t)mesh->nranks + (size_t)g->visitor_count;
    if (oh_poll_until(entries, count, deadline) < 0) return oh_fail_errno("poll");
    /* All who are here are heard before anyone is judged lost. From the last to the first, as they leave the list. */
    if (entries[0].revents != 0) OH_TRY(accept_visitor(g));
    for (int i = g->visitor_count - 1; i >= 0; i--) OH_TRY(hear(g, i));
    for (int r = 0; r < mesh->nranks; r++) {
        if (sockets[r].revents != 0 || processes[r].revents != 0) set_lost(g, r);
    }
    return g->lost < 0 ? ONEHOP_SUCCESS : oh_mesh_lost(mesh, g->lost, when_connecting);
}

static int find_absent(const oh_mesh_t *mesh, bool *absent) {
    int count = 0;
    for (int r = 0; r < mesh->nranks; r++) count += absent[r] = r != mesh->rank && mesh->peers[r].socket < 0;
    return count;
}

static onehop_result_t gather(gathering_t *g, const oh_time_limit_t *limit) {
    oh_mesh_t *mesh = g->mesh;
    const oh_card_t *me = &g->cards[mesh->rank];
    mesh->peers[mesh->rank].pid = getpid();
    for (int r = 0; r < mesh->nranks; r++) {
        /* Its own word for its process holds good here only if processes have the same numbers here. */
        if (g->cards[r].pid_namespace == me->pid_namespace) mesh->peers[r].pid = g->cards[r].pid;
    }
    /* First the calls, so that whoever finds one lost can tell others. */
    for (int r = 0; r < mesh->rank; r++) OH_TRY(call(g, r, limit->deadline));
    for (int r = 0; r < mesh->nranks; r++) {
        if (r != mesh->rank) OH_TRY(watch(g, r));
    }
    if (g->lost >= 0) return oh_mesh_lost(mesh, g->lost, when_connecting);
    bool absent[ONEHOP_MAX_RANKS];
    while (find_absent(mesh, absent) > 0) {
        if (oh_ms_until(limit->deadline) == 0) {
            char ranks[OH_RANKS_TEXT];
            oh_ranks_text(absent, mesh->nranks, ranks);
            return oh_fail(ONEHOP_TIMEOUT, "%s of %d met the others but did not connect to rank %d within %d ms", ranks,
                           mesh->nranks, mesh->rank, limit->timeout_ms);
        }
        OH_TRY(receive_visitors(g, limit->deadline));
    }
    return ONEHOP_SUCCESS;
}

/* Passes the last error on, also to those who have called and are not let in yet. */
static void tell_all(gathering_t *g, onehop_result_t code) {
    oh_mesh_tell(g->mesh, code);
    for (int i = 0; i < g->visitor_count; i++) oh_mesh_tell_one(g->visitors[i], code);
    for (int i = 0; i < VISITORS_MAX; i++) {
        int socket = accept4(g->mesh->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket < 0) break;
        oh_mesh_tell_one(socket, code);
        close(socket);
    }
}

onehop_result_t oh_mesh_connect(oh_mesh_t *mesh, const oh_card_t *cards, int rank, int nranks,
                                const oh_time_limit_t *limit) {
    mesh->rank = rank;
    mesh->nranks = nranks;
    gathering_t g = {.mesh = mesh, .cards = cards, .lost = -1};
    onehop_result_t result = gather(&g, limit);
    if (result != ONEHOP_SUCCESS) tell_all(&g, result);
    for (int i = 0; i < g.visitor_count; i++) close(g.visitors[i]);
    oh_close(&mesh->listener);
    /* Nobody goes on before all are connected: until then, a peer that leaves is a peer that is lost. */
    return result == ONEHOP_SUCCESS ? oh_mesh_meet(mesh, "connected", limit) : result;
}
