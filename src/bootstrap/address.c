/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static onehop_result_t wrong(const char *text, const char *expected) {
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "rendezvous is \"%.128s\": expected %s", text, expected);
}

static onehop_result_t parse_unix(const char *text, const char *name, oh_address_t *out) {
    if ((name[0] != '/' && name[0] != '@') || name[1] == '\0') {
        return wrong(text, "\"unix:/path\" with an absolute path, or \"unix:@name\"");
    }
    if (strlen(name) > OH_UNIX_NAME_MAX) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT,
                       "rendezvous is \"%.128s\": its name is %zu bytes long, and a Unix socket's at most %d", text,
                       strlen(name), OH_UNIX_NAME_MAX);
    }
    memcpy(out->path, name, strlen(name) + 1);
    return ONEHOP_SUCCESS;
}

static bool is_port(const char *text) {
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 5 || text[digits] != '\0') return false;
    long port = strtol(text, NULL, 10);
    return port >= 1 && port <= 65535;
}

static onehop_result_t parse_tcp(const char *text, const char *name, oh_address_t *out) {
    static const char expected[] = "\"tcp:host:port\" with a port from 1 to 65535";
    const char *colon = strrchr(name, ':');
    if (colon == NULL || colon == name || !is_port(colon + 1)) return wrong(text, expected);
    /* A numeric IPv6 host is written in brackets, as in a URL. */
    bool brackets = name[0] == '[' && colon[-1] == ']';
    const char *host = brackets ? name + 1 : name;
    size_t length = (size_t)(colon - host) - (brackets ? 1 : 0);
    if (length == 0 || length >= sizeof out->host) return wrong(text, expected);
    memcpy(out->host, host, length);
    memcpy(out->port, colon + 1, strlen(colon + 1) + 1);
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_address_parse(const char *text, oh_address_t *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->text, sizeof out->text, "%s", text);
    if (strncmp(text, "unix:", 5) == 0) return parse_unix(text, text + 5, out);
    if (strncmp(text, "tcp:", 4) == 0) return parse_tcp(text, text + 4, out);
    return wrong(text, "\"unix:/path\", \"unix:@name\" or \"tcp:host:port\"");
}

onehop_result_t oh_address_resolve(const oh_address_t *address, struct addrinfo **out) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int error = getaddrinfo(address->host, address->port, &hints, out);
    if (error == 0) return ONEHOP_SUCCESS;
    if (error == EAI_SYSTEM) return oh_fail_errno("rendezvous %s: getaddrinfo", address->text);
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "rendezvous %s: the host cannot be found: %s", address->text,
                   gai_strerror(error));
}
