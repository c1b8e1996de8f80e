/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes on any connections to rank 0 during a rendezvous. The input is a script:
 *
 *   c            a new connection
 *   g S R N      connection S greets as rank R of N
 *   p S R A B V  the same, with byte AB of the greeting made V
 *   r S L ...    connection S sends the L bytes that follow
 *   x S          connection S hangs up
 *
 * Whatever it says, rank 0 survives, what it answers has the form of an answer, and it hangs up in the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/hub.h"
#include "bootstrap/sock.h"
#include "bootstrap/wire.h"

enum { CONNECTIONS = 8, NRANKS = 3, ROOM = 64 * 1024 };

static void require(int condition) {
    if (!condition) abort();
}

typedef struct script {
    const uint8_t *data;
    size_t size;
} script_t;

static unsigned next(script_t *script) {
    if (script->size == 0) return 0;
    script->size--;
    return *script->data++;
}

static oh_card_t make_card(unsigned rank, unsigned nranks) {
    oh_card_t card = {.protocol = OH_CARD_PROTOCOL,
                      .version = "1.2.3",
                      .rank = (int)rank,
                      .nranks = (int)nranks,
                      .pid = 1 + (int)rank,
                      .timeout_ms = 1};
    return card;
}

static void say(int socket, const void *bytes, size_t length) {
    /* A full socket, or one that was hung up on, is no matter. */
    if (socket >= 0) (void)!send(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void make_greeting(unsigned rank, unsigned nranks, unsigned char greeting[OH_GREETING_BYTES]) {
    oh_card_t card = make_card(rank % 8, nranks % 8);
    oh_card_encode(&card, greeting);
    oh_put32(greeting + OH_CARD_BYTES, 1000000);
}

static void connect_one(oh_hub_t *hub, int *sockets) {
    int pair[2], slot = 0;
    while (slot < CONNECTIONS && sockets[slot] >= 0) slot++;
    if (slot == CONNECTIONS) return;
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    sockets[slot] = pair[0];
    oh_hub_adopt(hub, pair[1]);
}

static void act(script_t *script, oh_hub_t *hub, int *sockets) {
    unsigned char greeting[OH_GREETING_BYTES];
    unsigned verb = next(script);
    if (verb == 'c') {
        connect_one(hub, sockets);
        return;
    }
    unsigned slot = next(script) % CONNECTIONS;
    if (verb == 'g' || verb == 'p') {
        unsigned rank = next(script);
        make_greeting(rank, verb == 'g' ? next(script) : NRANKS, greeting);
        if (verb == 'p') {
            unsigned at = next(script) << 8;
            at = (at | next(script)) % OH_GREETING_BYTES;
            greeting[at] = (unsigned char)next(script);
        }
        say(sockets[slot], greeting, sizeof greeting);
    } else if (verb == 'r') {
        size_t length = next(script);
        if (length > script->size) length = script->size;
        say(sockets[slot], script->data, length);
        script->data += length;
        script->size -= length;
    } else if (verb == 'x') {
        oh_close(&sockets[slot]);
    }
}

/* What rank 0 has answered, to its end. */
static void check_answers(int socket, bool complete) {
    static unsigned char bytes[ROOM + 1];
    size_t size = 0;
    for (ssize_t n; (n = recv(socket, bytes + size, sizeof bytes - size, 0)) != 0; size += (size_t)n) {
        if (n < 0) {
            require(errno == ECONNRESET); /* it had not read all */
            n = 0;
        }
    }
    require(size <= ROOM);
    for (size_t at = 0; at < size;) {
        require(size - at >= OH_REPLY_BYTES && memcmp(bytes + at, oh_reply_magic, sizeof oh_reply_magic) == 0);
        uint32_t kind = oh_get32(bytes + at + 8), length = oh_get32(bytes + at + 12);
        at += OH_REPLY_BYTES;
        require(length <= size - at);
        if (kind == OH_REPLY_ACCEPTED) require(length == 4 && at == OH_REPLY_BYTES);
        if (kind == OH_REPLY_CARDS) require(complete && length == NRANKS * OH_CARD_BYTES);
        if (kind == OH_REPLY_REFUSED) require(length > 4 && length <= 4 + OH_ERROR_TEXT);
        require(kind >= OH_REPLY_ACCEPTED && kind <= OH_REPLY_REFUSED);
        at += length;
        require(kind == OH_REPLY_ACCEPTED || at == size); /* the others are its last word */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    script_t script = {data, size};
    oh_address_t address;
    require(oh_address_parse("address", "unix:@fuzz", &address) == ONEHOP_SUCCESS);
    oh_card_t mine = make_card(0, NRANKS), cards[ONEHOP_MAX_RANKS];
    oh_time_limit_t limit = {.deadline = oh_deadline_in(1000000), .timeout_ms = 1000000};
    oh_hub_t *hub;
    require(oh_hub_open(&address, &mine, cards, &limit, &hub) == ONEHOP_SUCCESS);
    int sockets[CONNECTIONS];
    memset(sockets, -1, sizeof sockets);

    while (script.size > 0 && (oh_hub_absent(hub) > 0 || oh_hub_verdict(hub) != ONEHOP_SUCCESS)) {
        act(&script, hub, sockets);
        require(oh_hub_step(hub, -1, 0) == ONEHOP_SUCCESS);
    }
    onehop_result_t verdict = oh_hub_verdict(hub);
    require(verdict == ONEHOP_SUCCESS || verdict == ONEHOP_MISMATCH || verdict == ONEHOP_PEER_LOST ||
            verdict == ONEHOP_TIMEOUT);
    bool complete = verdict == ONEHOP_SUCCESS && oh_hub_absent(hub) == 0;
    if (complete) {
        require(oh_hub_deliver(hub) == ONEHOP_SUCCESS);
        for (int r = 0; r < NRANKS; r++) require(cards[r].rank == r && cards[r].nranks == NRANKS);
    }
    oh_hub_close(hub);
    for (int i = 0; i < CONNECTIONS; i++) {
        if (sockets[i] >= 0) check_answers(sockets[i], complete);
        oh_close(&sockets[i]);
    }
    return 0;
}
