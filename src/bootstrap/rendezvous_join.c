/* SPDX-License-Identifier: Apache-2.0 */
/* The course of a rank other than 0 through a rendezvous: knock until rank 0 answers, then wait for the cards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/rendezvous.h"
#include "bootstrap/sock.h"
#include "bootstrap/wire.h"

enum { PAUSE_MAX_MS = 50, MARGIN_MAX_MS = 200, BODY_MAX = ONEHOP_MAX_RANKS * OH_CARD_BYTES };

typedef struct joining {
    const oh_address_t *address;
    const oh_card_t *mine;
    oh_card_t *cards;
    const oh_time_limit_t *limit;
    struct addrinfo *network; /* NULL for a Unix socket */
    bool answered;            /* something has been connected to, that has not hung up */
    int host_pid;             /* rank 0's, once it has accepted; else 0 */
} joining_t;

/* What one attempt came to: `result` if it is final. */
typedef struct attempt {
    bool final;
    onehop_result_t result;
} attempt_t;

static const attempt_t again = {.final = false};
static attempt_t finally(onehop_result_t result) { return (attempt_t){.final = true, .result = result}; }

/* ---- what rank 0 says ---- */

static onehop_result_t late(const joining_t *j) {
    const char *where = j->address->text;
    if (j->host_pid != 0) {
        return oh_fail(ONEHOP_TIMEOUT, "rank 0 (pid %d) at %s did not bring the ranks together within %d ms",
                       j->host_pid, where, j->limit->timeout_ms);
    }
    if (j->answered) {
        return oh_fail(ONEHOP_TIMEOUT, "what listens at %s did not answer as rank 0 would within %d ms", where,
                       j->limit->timeout_ms);
    }
    return oh_fail(ONEHOP_TIMEOUT, "rank 0 did not appear at %s within %d ms", where, j->limit->timeout_ms);
}

/* What the end of the connection means. */
static attempt_t ended(const joining_t *j, oh_io_t how) {
    if (how == OH_IO_LATE) return finally(late(j));
    if (j->host_pid == 0) return again;
    return finally(oh_fail(ONEHOP_PEER_LOST, "rank 0 (pid %d) died or left while ranks gathered at %s", j->host_pid,
                           j->address->text));
}

static attempt_t nonsense(const joining_t *j) {
    return finally(oh_fail(ONEHOP_SYSTEM_ERROR, "what listens at %s is not rank 0 of Onehop", j->address->text));
}

static attempt_t take_refusal(const joining_t *j, const unsigned char *body, size_t length) {
    if (length < 4 || length > 4 + OH_ERROR_TEXT) return nonsense(j);
    uint32_t code = oh_get32(body);
    if (code == ONEHOP_SUCCESS || code > ONEHOP_ABORTED) return nonsense(j);
    return finally(oh_fail((onehop_result_t)code, "%.*s", (int)(length - 4), (const char *)body + 4));
}

static attempt_t take_cards(const joining_t *j, const unsigned char *body, size_t length) {
    if (length != (size_t)j->mine->nranks * OH_CARD_BYTES) return nonsense(j);
    for (int r = 0; r < j->mine->nranks; r++) {
        onehop_result_t result = oh_card_decode(body + (size_t)r * OH_CARD_BYTES, &j->cards[r]);
        if (result != ONEHOP_SUCCESS) return nonsense(j);
    }
    return finally(ONEHOP_SUCCESS);
}

/* Reads replies until one is final; body has room for BODY_MAX. */
static attempt_t listen_to(joining_t *j, int socket, unsigned char *body) {
    for (;;) {
        unsigned char header[OH_REPLY_BYTES];
        oh_io_t outcome = oh_read_until(socket, header, sizeof header, j->limit->deadline);
        if (outcome != OH_IO_DONE) return ended(j, outcome);
        if (memcmp(header, oh_reply_magic, sizeof oh_reply_magic) != 0) return nonsense(j);
        uint32_t kind = oh_get32(header + OH_REPLY_MAGIC_BYTES), length = oh_get32(header + OH_REPLY_MAGIC_BYTES + 4);
        if (length > BODY_MAX) return nonsense(j);
        outcome = oh_read_until(socket, body, length, j->limit->deadline);
        if (outcome != OH_IO_DONE) return ended(j, outcome);
        if (kind == OH_REPLY_REFUSED) return take_refusal(j, body, length);
        if (kind == OH_REPLY_CARDS) return take_cards(j, body, length);
        if (kind != OH_REPLY_ACCEPTED || length != 4) return nonsense(j);
        j->host_pid = (int)oh_get32(body);
    }
}

static attempt_t converse(joining_t *j, int socket) {
    unsigned char greeting[OH_GREETING_BYTES];
    int left = oh_ms_until(j->limit->deadline), margin = left / 10 < MARGIN_MAX_MS ? left / 10 : MARGIN_MAX_MS;
    oh_card_encode(j->mine, greeting);
    /* A little less than the truth, so that rank 0's word on who is missing comes before this rank gives up. */
    oh_put32(greeting + OH_CARD_BYTES, (uint32_t)(left - margin));
    oh_io_t outcome = oh_write_until(socket, greeting, sizeof greeting, j->limit->deadline);
    if (outcome == OH_IO_LATE) return ended(j, outcome);
    /* Who refuses may hang up before it has read all, and what it says is still there. */
    unsigned char *body = malloc(BODY_MAX);
    if (body == NULL) return finally(oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory"));
    attempt_t attempt = listen_to(j, socket, body);
    free(body);
    return attempt;
}

/* ---- reaching it ---- */

static attempt_t connect_unix(const joining_t *j, int socket) {
    struct sockaddr_un name;
    socklen_t length = oh_unix_address(j->address->path, &name);
    const char *where = j->address->text;
    if (connect(socket, (const struct sockaddr *)(const void *)&name, length) == 0) {
        struct ucred owner;
        if (!oh_socket_owner(socket, &owner) || owner.uid == geteuid()) return finally(ONEHOP_SUCCESS);
        return finally(oh_fail(ONEHOP_UNSUPPORTED,
                               "ranks must run under one user: process %d, which listens at %s, has uid %u, rank %d "
                               "(pid %d) has uid %u",
                               (int)owner.pid, where, (unsigned)owner.uid, j->mine->rank, j->mine->pid,
                               (unsigned)geteuid()));
    }
    struct stat status;
    int error = errno;
    if (error == ECONNREFUSED && oh_address_is_file(j->address) && stat(j->address->path, &status) == 0 &&
        !S_ISSOCK(status.st_mode)) {
        return finally(oh_fail(ONEHOP_INVALID_ARGUMENT, "rendezvous %s: the file exists and is not a socket", where));
    }
    if (error == ENOENT || error == ECONNREFUSED || error == EAGAIN || error == EINTR) return again;
    errno = error;
    return finally(oh_fail_errno("rendezvous %s: connect", where));
}

/* A port of one's own that nobody listens on can connect to itself. */
static bool is_itself(int socket) {
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_size = sizeof here, there_size = sizeof there;
    return getsockname(socket, (struct sockaddr *)(void *)&here, &here_size) == 0 &&
           getpeername(socket, (struct sockaddr *)(void *)&there, &there_size) == 0 && here_size == there_size &&
           memcmp(&here, &there, here_size) == 0;
}

static bool connect_tcp(int socket, const struct addrinfo *to, int64_t deadline) {
    if (connect(socket, to->ai_addr, to->ai_addrlen) != 0) {
        if (errno != EINPROGRESS && errno != EINTR) return false;
        struct pollfd entry = {.fd = socket, .events = POLLOUT};
        int error = 0;
        socklen_t size = sizeof error;
        if (oh_poll_until(&entry, 1, deadline) <= 0) return false;
        if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) return false;
    }
    return !is_itself(socket);
}

static attempt_t try_one(joining_t *j, int family, const struct addrinfo *to) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return errno == EAFNOSUPPORT ? again : finally(oh_fail_errno("socket"));
    attempt_t attempt;
    if (to == NULL) {
        attempt = connect_unix(j, fd);
    } else {
        attempt = connect_tcp(fd, to, j->limit->deadline) ? finally(ONEHOP_SUCCESS) : again;
    }
    j->answered = attempt.final && attempt.result == ONEHOP_SUCCESS;
    if (j->answered) attempt = converse(j, fd);
    close(fd);
    return attempt;
}

static attempt_t try_all(joining_t *j) {
    if (j->network == NULL) return try_one(j, AF_UNIX, NULL);
    attempt_t attempt = again;
    for (const struct addrinfo *to = j->network; to != NULL && !attempt.final; to = to->ai_next) {
        attempt = try_one(j, to->ai_family, to);
    }
    return attempt;
}

onehop_result_t oh_rendezvous_join(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                                   const oh_time_limit_t *limit) {
    joining_t joining = {.address = address, .mine = mine, .cards = cards, .limit = limit};
    if (!oh_address_is_unix(address)) OH_TRY(oh_tcp_resolve(address, &joining.network));
    attempt_t attempt = try_all(&joining);
    for (int pause = 1; !attempt.final; pause = 2 * pause < PAUSE_MAX_MS ? 2 * pause : PAUSE_MAX_MS) {
        if (oh_ms_until(limit->deadline) == 0) {
            attempt = finally(late(&joining));
            break;
        }
        oh_pause_ms(pause, limit->deadline);
        attempt = try_all(&joining);
    }
    if (joining.network != NULL) freeaddrinfo(joining.network);
    return attempt.result;
}
