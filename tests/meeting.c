/* SPDX-License-Identifier: Apache-2.0 */
/* See meeting.h. */
#include "meeting.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bootstrap/sock.h"
#include "bootstrap/wire.h"

/* A port that nobody has, a moment ago. */
static int free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)(void *)&address, sizeof address) == 0, "bind: %s", strerror(errno));
    CHECK(getsockname(fd, (struct sockaddr *)(void *)&address, &size) == 0, "getsockname: %s", strerror(errno));
    close(fd);
    return ntohs(address.sin_port);
}

meeting_t *meeting_new(place_t place) {
    static int count;
    meeting_t *m = shared_zalloc(sizeof *m);
    m->timeout_ms = (int)patience_ms(20000);
    if (place == AT_PORT) {
        snprintf(m->address, sizeof m->address, "tcp:127.0.0.1:%d", free_port());
    } else {
        snprintf(m->address, sizeof m->address, "unix:%sonehop-test-%d-%d-%llx", place == AT_FILE ? "/tmp/" : "@",
                 (int)getpid(), count++, (unsigned long long)tests_seed());
    }
    return m;
}

void meeting_free(meeting_t *m) {
    CHECK(strncmp(m->address, "unix:/", 6) != 0 || access(m->address + 5, F_OK) != 0, "%s is left", m->address);
    shared_free(m, sizeof *m);
}

oh_config_t meeting_config(const meeting_t *m, int rank, int nranks) {
    oh_config_t config = {.rank = rank,
                          .nranks = nranks,
                          .device = ONEHOP_DEVICE_HOST,
                          .workspace_bytes = 32 << 20,
                          .timeout_ms = 30000,
                          .bootstrap_timeout_ms = m->timeout_ms,
                          .algorithm = "auto"};
    CHECK_SUCCESS(oh_address_parse("rendezvous", m->address, &config.rendezvous));
    return config;
}

void meeting_record(meeting_t *m, int as, int64_t begin, onehop_result_t code) {
    outcome_t *outcome = &m->outcomes[as];
    outcome->begin = begin;
    outcome->end = now_ns();
    outcome->pid = (int)getpid();
    outcome->code = code;
    snprintf(outcome->text, sizeof outcome->text, "%s", onehop_last_error());
}

oh_bootstrap_t *meeting_open(meeting_t *m, const oh_config_t *config, int as) {
    resources_t before = resources_now();
    oh_bootstrap_t *b = NULL;
    int64_t begin = now_ns();
    doing("open as rank %d of %d at %s", config->rank, config->nranks, m->address);
    onehop_result_t code = oh_bootstrap_open(config, &b);
    meeting_record(m, as, begin, code);
    CHECK((code == ONEHOP_SUCCESS) == (b != NULL), "%s, but the pointer is %p", onehop_result_string(code), (void *)b);
    if (b == NULL) resources_check(before, onehop_last_error());
    return b;
}

void meeting_expect(const meeting_t *m, int as, onehop_result_t code, const char *format, ...) {
    const outcome_t *outcome = &m->outcomes[as];
    char sentence[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    CHECK(outcome->code == code && (code == ONEHOP_SUCCESS || strcmp(outcome->text, sentence) == 0),
          "%d got\n%s: %s\nnot\n%s: %s", as, onehop_result_string(outcome->code), outcome->text,
          onehop_result_string(code), sentence);
}

void meeting_expect_words(const meeting_t *m, int as, onehop_result_t code, const char *words) {
    const outcome_t *outcome = &m->outcomes[as];
    CHECK(outcome->code == code && strstr(outcome->text, words) != NULL, "%d got\n%s: %s\nnot\n%s: ... %s ...", as,
          onehop_result_string(outcome->code), outcome->text, onehop_result_string(code), words);
}

/* ---- a rank made by hand ---- */

oh_card_t hand_card(int rank, int nranks) {
    oh_card_t card = {.protocol = OH_CARD_PROTOCOL,
                      .rank = rank,
                      .nranks = nranks,
                      .pid = (int)getpid(),
                      .device = ONEHOP_DEVICE_HOST,
                      .timeout_ms = 30000};
    snprintf(card.version, sizeof card.version, "%s", onehop_version());
    return card;
}

static int try_connect(const char *text) {
    oh_address_t address;
    CHECK_SUCCESS(oh_address_parse("address", text, &address));
    int fd;
    if (oh_address_is_unix(&address)) {
        struct sockaddr_un name;
        socklen_t length = oh_unix_address(address.path, &name);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(fd >= 0, "socket: %s", strerror(errno));
        if (connect(fd, (struct sockaddr *)(void *)&name, length) == 0) return fd;
    } else {
        struct addrinfo *found;
        CHECK_SUCCESS(oh_tcp_resolve(&address, &found));
        fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(fd >= 0, "socket: %s", strerror(errno));
        int failed = connect(fd, found->ai_addr, found->ai_addrlen);
        freeaddrinfo(found);
        if (failed == 0) return fd;
    }
    close(fd);
    return -1;
}

int hand_connect(const char *address) {
    int64_t deadline = now_ns() + patience_ms(10000) * 1000000;
    for (;;) {
        int fd = try_connect(address);
        if (fd >= 0) return fd;
        CHECK(now_ns() < deadline, "cannot connect to %s: %s", address, strerror(errno));
        nap_us(500);
    }
}

int hand_listen(const char *text) {
    oh_address_t address;
    CHECK_SUCCESS(oh_address_parse("address", text, &address));
    int fd, on = 1;
    if (oh_address_is_unix(&address)) {
        struct sockaddr_un name;
        socklen_t length = oh_unix_address(address.path, &name);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(bind(fd, (struct sockaddr *)(void *)&name, length) == 0, "bind: %s", strerror(errno));
    } else {
        struct addrinfo *found;
        CHECK_SUCCESS(oh_tcp_resolve(&address, &found));
        fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        CHECK(bind(fd, found->ai_addr, found->ai_addrlen) == 0, "bind: %s", strerror(errno));
        freeaddrinfo(found);
    }
    CHECK(listen(fd, 16) == 0, "listen: %s", strerror(errno));
    return fd;
}

void hand_greet(int socket, const oh_card_t *card) {
    unsigned char greeting[OH_GREETING_BYTES];
    oh_card_encode(card, greeting);
    oh_put32(greeting + OH_CARD_BYTES, 1000000);
    CHECK(send(socket, greeting, sizeof greeting, MSG_NOSIGNAL) == (ssize_t)sizeof greeting, "send: %s",
          strerror(errno));
}

uint32_t hand_reply(int socket, unsigned char *body, size_t room) {
    unsigned char header[OH_REPLY_BYTES];
    int64_t deadline = now_ns() + patience_ms(10000) * 1000000;
    oh_io_t outcome = oh_read_until(socket, header, sizeof header, deadline);
    CHECK(outcome != OH_IO_LATE, "there was no reply");
    if (outcome == OH_IO_CLOSED) return 0;
    CHECK(memcmp(header, oh_reply_magic, sizeof oh_reply_magic) == 0, "the reply has another magic");
    uint32_t length = oh_get32(header + OH_REPLY_MAGIC_BYTES + 4);
    CHECK(length < room, "a reply of %u bytes", length);
    CHECK(oh_read_until(socket, body, length, deadline) == OH_IO_DONE, "the reply is not whole");
    body[length] = '\0';
    return oh_get32(header + OH_REPLY_MAGIC_BYTES);
}

void hand_expect_refusal(int socket, onehop_result_t code, const char *words) {
    unsigned char body[1024];
    uint32_t kind = hand_reply(socket, body, sizeof body);
    CHECK(kind == OH_REPLY_REFUSED, "reply %u", kind);
    CHECK(oh_get32(body) == (uint32_t)code && strstr((char *)body + 4, words) != NULL, "refused with %s: %s",
          onehop_result_string((onehop_result_t)oh_get32(body)), (char *)body + 4);
}
