/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/hub.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/sock.h"
#include "bootstrap/transport.h"
#include "bootstrap/wire.h"

/* Every rank, and as many who have not said who they are; beyond that the oldest of those is hung up on. */
enum { CONNECTIONS_MAX = 2 * ONEHOP_MAX_RANKS };

typedef struct connection {
    int socket; /* -1: hung up, and forgotten before the next wait */
    int rank;   /* -1: has not said who it is; else it waits for the cards */
    size_t received, sent;
    unsigned char greeting[OH_GREETING_BYTES];
} connection_t;

struct oh_hub {
    const oh_address_t *address;
    int nranks;
    oh_card_t *cards; /* the caller's; those of ranks that are `present` */
    int64_t begin, deadline;
    bool present[ONEHOP_MAX_RANKS];

    onehop_result_t verdict;
    char sentence[OH_ERROR_TEXT];
    bool told[ONEHOP_MAX_RANKS];    /* the verdict; ... */
    int told_pid[ONEHOP_MAX_RANKS]; /* ... which process of that rank */

    connection_t connections[CONNECTIONS_MAX]; /* oldest first */
    int count;
};

onehop_result_t oh_hub_open(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                            const oh_time_limit_t *limit, oh_hub_t **out) {
    oh_hub_t *hub = calloc(1, sizeof *hub);
    if (hub == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    hub->address = address;
    hub->nranks = mine->nranks;
    hub->cards = cards;
    hub->cards[0] = *mine;
    hub->present[0] = true;
    hub->begin = limit->deadline - (int64_t)limit->timeout_ms * 1000000;
    hub->deadline = limit->deadline;
    *out = hub;
    return ONEHOP_SUCCESS;
}

void oh_hub_close(oh_hub_t *hub) {
    for (int i = 0; i < hub->count; i++) oh_close(&hub->connections[i].socket);
    free(hub);
}

static void hang_up(connection_t *c) { oh_close(&c->socket); }

static void forget_closed(oh_hub_t *hub) {
    int kept = 0;
    for (int i = 0; i < hub->count; i++) {
        if (hub->connections[i].socket < 0) continue;
        if (kept != i) hub->connections[kept] = hub->connections[i];
        kept++;
    }
    hub->count = kept;
}

/* ---- replies: each so short that a fresh connection takes it at once, or is broken ---- */

static bool reply(const connection_t *c, oh_reply_t kind, const void *body, size_t length) {
    unsigned char bytes[OH_REPLY_BYTES + 4 + OH_ERROR_TEXT];
    oh_reply_header(bytes, kind, length);
    memcpy(bytes + OH_REPLY_BYTES, body, length);
    ssize_t sent = send(c->socket, bytes, OH_REPLY_BYTES + length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent == (ssize_t)(OH_REPLY_BYTES + length);
}

/* Passes the last error on. */
static void refuse(const connection_t *c, onehop_result_t code) {
    unsigned char body[4 + OH_ERROR_TEXT];
    const char *sentence = onehop_last_error();
    size_t length = strnlen(sentence, OH_ERROR_TEXT);
    oh_put32(body, (uint32_t)code);
    memcpy(body + 4, sentence, length);
    (void)reply(c, OH_REPLY_REFUSED, body, 4 + length);
}

/* ---- the verdict ---- */

onehop_result_t oh_hub_verdict(const oh_hub_t *hub) {
    return hub->verdict == ONEHOP_SUCCESS ? ONEHOP_SUCCESS : oh_fail(hub->verdict, "%s", hub->sentence);
}

static void tell(oh_hub_t *hub, const connection_t *c, int rank, int pid) {
    refuse(c, oh_hub_verdict(hub));
    hub->told[rank] = true;
    hub->told_pid[rank] = pid;
}

onehop_result_t oh_hub_fail(oh_hub_t *hub, onehop_result_t code) {
    hub->verdict = code;
    snprintf(hub->sentence, sizeof hub->sentence, "%s", onehop_last_error());
    for (int i = 0; i < hub->count; i++) {
        connection_t *c = &hub->connections[i];
        if (c->socket < 0 || c->rank < 0) continue;
        tell(hub, c, c->rank, hub->cards[c->rank].pid);
        hang_up(c);
    }
    return code;
}

bool oh_hub_all_told(const oh_hub_t *hub) {
    for (int r = 1; r < hub->nranks; r++) {
        if (!hub->told[r]) return false;
    }
    return true;
}

int oh_hub_absent(const oh_hub_t *hub) {
    int count = 0;
    for (int r = 0; r < hub->nranks; r++) count += !hub->present[r];
    return count;
}

int64_t oh_hub_deadline(const oh_hub_t *hub) { return hub->deadline; }

static onehop_result_t late(const oh_hub_t *hub) {
    bool absent[ONEHOP_MAX_RANKS];
    for (int r = 0; r < hub->nranks; r++) absent[r] = !hub->present[r];
    char ranks[OH_RANKS_TEXT];
    oh_ranks_text(absent, hub->nranks, ranks);
    return oh_fail(ONEHOP_TIMEOUT, "%s of %d did not appear at %s within %lld ms", ranks, hub->nranks,
                   hub->address->text, (long long)((hub->deadline - hub->begin) / 1000000));
}

/* ---- what connections say ---- */

/* Someone of this job has come. The connection is kept if it is now a rank's that waits. */
static bool welcome(oh_hub_t *hub, connection_t *c, const oh_card_t *card, uint32_t patience_ms) {
    if (hub->verdict != ONEHOP_SUCCESS) {
        /* Who has been told and comes again comes to the next rendezvous: hung up on, it will try until that begins. */
        if (!hub->told[card->rank] || hub->told_pid[card->rank] != card->pid) tell(hub, c, card->rank, card->pid);
        return false;
    }
    onehop_result_t result = oh_cards_compatible(&hub->cards[0], card);
    if (result == ONEHOP_SUCCESS && hub->present[card->rank]) {
        result = oh_fail(ONEHOP_MISMATCH, "two processes call themselves rank %d at %s: pid %d and pid %d", card->rank,
                         hub->address->text, hub->cards[card->rank].pid, card->pid);
    }
    if (result != ONEHOP_SUCCESS) {
        oh_hub_fail(hub, result);
        tell(hub, c, card->rank, card->pid);
        return false;
    }
    unsigned char pid[4];
    oh_put32(pid, (uint32_t)hub->cards[0].pid);
    if (!reply(c, OH_REPLY_ACCEPTED, pid, sizeof pid)) return false;
    c->rank = card->rank;
    hub->cards[card->rank] = *card;
    hub->present[card->rank] = true;
    /* Once one rank gives up all is lost, so that its patience is everyone's. */
    int64_t its_deadline = oh_now_ns() + (int64_t)patience_ms * 1000000;
    if (its_deadline < hub->deadline) hub->deadline = its_deadline;
    return true;
}

/* The whole greeting is there. Returns whether to keep the connection. */
static bool greet(oh_hub_t *hub, connection_t *c) {
    oh_card_t card;
    if (oh_card_decode(c->greeting, &card) != ONEHOP_SUCCESS) return false;
    if (strcmp(card.job, hub->cards[0].job) != 0) {
        refuse(c, oh_fail(ONEHOP_MISMATCH, "at %s the ranks of job \"%s\" meet, but rank %d (pid %d) is of job \"%s\"",
                          hub->address->text, hub->cards[0].job, card.rank, card.pid, card.job));
        return false;
    }
    return welcome(hub, c, &card, oh_get32(c->greeting + OH_CARD_BYTES));
}

/* Reads what has come from one who has not said who it is. Returns whether to keep the connection. */
static bool hear(oh_hub_t *hub, connection_t *c) {
    ssize_t n = recv(c->socket, c->greeting + c->received, sizeof c->greeting - c->received, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    c->received += (size_t)n;
    size_t begun = c->received < OH_CARD_MAGIC_BYTES ? c->received : OH_CARD_MAGIC_BYTES;
    if (memcmp(c->greeting, oh_card_magic, begun) != 0) return false;
    return c->received < sizeof c->greeting || greet(hub, c);
}

/* A rank that waits has nothing to say: what comes is ignored, but for the end. Returns whether it is still there. */
static bool still_there(const connection_t *c) {
    unsigned char ignored[256];
    ssize_t n = recv(c->socket, ignored, sizeof ignored, MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void serve(oh_hub_t *hub, connection_t *c) {
    if (c->rank < 0) {
        if (!hear(hub, c)) hang_up(c);
    } else if (!still_there(c)) {
        hang_up(c);
        hub->told[c->rank] = true; /* as far as it can be */
        oh_hub_fail(hub, oh_fail(ONEHOP_PEER_LOST, "rank %d (pid %d) died or left while it waited for others at %s",
                                 c->rank, hub->cards[c->rank].pid, hub->address->text));
    }
}

/* ---- who comes ---- */

/* Only the same user may join, where that can be known. Else says so, and returns false. */
static bool admit(const oh_hub_t *hub, const connection_t *c) {
    if (!oh_address_is_unix(hub->address)) return true;
    struct ucred owner;
    if (!oh_socket_owner(c->socket, &owner)) return false;
    if (owner.uid == geteuid()) return true;
    refuse(c,
           oh_fail(ONEHOP_UNSUPPORTED, "ranks must run under one user: at %s rank 0 has uid %u, process %d has uid %u",
                   hub->address->text, (unsigned)geteuid(), (int)owner.pid, (unsigned)owner.uid));
    return false;
}

/* Hangs up on the oldest of those who have not said who they are. Returns false if there is none. */
static bool drop_stranger(oh_hub_t *hub) {
    forget_closed(hub);
    for (int i = 0; i < hub->count; i++) {
        if (hub->connections[i].rank >= 0) continue;
        hang_up(&hub->connections[i]);
        forget_closed(hub);
        return true;
    }
    return false;
}

void oh_hub_adopt(oh_hub_t *hub, int socket) {
    /* There are more places than ranks: if all are taken there is a stranger. */
    if (hub->count == CONNECTIONS_MAX) drop_stranger(hub);
    connection_t *c = &hub->connections[hub->count++];
    *c = (connection_t){.socket = socket, .rank = -1};
    /* A reply should not wait for the acknowledgement of the one before. A Unix socket knows of no such thing. */
    int on = 1;
    (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!admit(hub, c)) hang_up(c);
}

/* One at a time, so that nobody is dropped for newcomers before there was time to hear it. */
static onehop_result_t accept_one(oh_hub_t *hub, int listener) {
    int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket >= 0) {
        oh_hub_adopt(hub, socket);
        return ONEHOP_SUCCESS;
    }
    int error = errno;
    /* It was gone before it was taken in. */
    if (error == EAGAIN || error == EINTR || error == ECONNABORTED || error == EPROTO) return ONEHOP_SUCCESS;
    if ((error == EMFILE || error == ENFILE) && drop_stranger(hub)) return ONEHOP_SUCCESS;
    errno = error;
    return oh_fail_errno("rendezvous %s: accept", hub->address->text);
}

onehop_result_t oh_hub_step(oh_hub_t *hub, int listener, int64_t until) {
    struct pollfd entries[CONNECTIONS_MAX + 1];
    forget_closed(hub);
    const int count = hub->count;
    for (int i = 0; i < count; i++) {
        entries[i] = (struct pollfd){.fd = hub->connections[i].socket, .events = POLLIN};
    }
    entries[count] = (struct pollfd){.fd = listener, .events = POLLIN};
    if (oh_poll_until(entries, (size_t)count + 1, until) < 0) return oh_fail_errno("poll");
    for (int i = 0; i < count; i++) {
        /* A verdict on one hangs up on others. */
        if (entries[i].revents != 0 && hub->connections[i].socket >= 0) serve(hub, &hub->connections[i]);
    }
    if (entries[count].revents != 0) OH_TRY(accept_one(hub, listener));
    if (hub->verdict == ONEHOP_SUCCESS && oh_hub_absent(hub) > 0 && oh_ms_until(hub->deadline) == 0) {
        oh_hub_fail(hub, late(hub));
    }
    return ONEHOP_SUCCESS;
}

/* Sends more of the bytes to one. Returns whether there is more to send. */
static bool send_more(connection_t *c, const unsigned char *bytes, size_t length) {
    if (c->socket < 0 || c->rank < 0) return false;
    while (c->sent < length) {
        ssize_t n = send(c->socket, bytes + c->sent, length - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return true;
        /* Who is lost now will be missed when the ranks connect to one another. */
        if (n < 0) return false;
        c->sent += (size_t)n;
    }
    return false;
}

/* To all at once, so that one who does not read keeps nobody waiting but rank 0. */
static onehop_result_t send_to_all(oh_hub_t *hub, const unsigned char *bytes, size_t length) {
    for (;;) {
        struct pollfd entries[CONNECTIONS_MAX];
        size_t count = 0;
        for (int i = 0; i < hub->count; i++) {
            connection_t *c = &hub->connections[i];
            if (send_more(c, bytes, length)) entries[count++] = (struct pollfd){.fd = c->socket, .events = POLLOUT};
        }
        if (count == 0 || oh_ms_until(hub->deadline) == 0) return ONEHOP_SUCCESS;
        if (oh_poll_until(entries, count, hub->deadline) < 0) return oh_fail_errno("poll");
    }
}

onehop_result_t oh_hub_deliver(oh_hub_t *hub) {
    size_t length = OH_REPLY_BYTES + (size_t)hub->nranks * OH_CARD_BYTES;
    unsigned char *bytes = malloc(length);
    if (bytes == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    oh_reply_header(bytes, OH_REPLY_CARDS, length - OH_REPLY_BYTES);
    for (int r = 0; r < hub->nranks; r++) {
        oh_card_encode(&hub->cards[r], bytes + OH_REPLY_BYTES + (size_t)r * OH_CARD_BYTES);
    }
    onehop_result_t result = send_to_all(hub, bytes, length);
    free(bytes);
    return result;
}
