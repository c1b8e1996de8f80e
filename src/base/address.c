/* SPDX-License-Identifier: Apache-2.0 */
#include "base/address.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static onehop_result_t wrong(const char *source, const char *text, const char *expected) {
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s is \"%.128s\": expected %s", source, text, expected);
}

static onehop_result_t parse_unix(const char *source, const char *name, oh_address_t *out) {
    if ((name[0] != '/' && name[0] != '@') || name[1] == '\0') {
        return wrong(source, out->text, "\"unix:/path\" with an absolute path, or \"unix:@name\"");
    }
    if (strlen(name) > OH_UNIX_NAME_MAX) {
        return oh_fail(
            ONEHOP_INVALID_ARGUMENT,
            "%s is \"%.128s\": expected at most %d bytes after \"unix:\", as many as a Unix socket's address "
            "can hold, not %zu",
            source, out->text, OH_UNIX_NAME_MAX, strlen(name));
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

static onehop_result_t parse_tcp(const char *source, const char *name, oh_address_t *out) {
    static const char expected[] = "\"tcp:host:port\" with a port from 1 to 65535";
    const char *colon = strrchr(name, ':');
    if (colon == NULL || colon == name || !is_port(colon + 1)) return wrong(source, out->text, expected);
    /* A numeric IPv6 host is written in brackets, as in a URL. */
    bool brackets = name[0] == '[' && colon[-1] == ']';
    const char *host = brackets ? name + 1 : name;
    size_t length = (size_t)(colon - host) - (brackets ? 1 : 0);
    if (length == 0 || length >= sizeof out->host) return wrong(source, out->text, expected);
    memcpy(out->host, host, length);
    memcpy(out->port, colon + 1, strlen(colon + 1) + 1);
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_address_parse(const char *source, const char *text, oh_address_t *out) {
    memset(out, 0, sizeof *out);
    size_t length = strlen(text);
    if (length >= sizeof out->text) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "%s is %zu bytes long: expected at most %zu", source, length,
                       sizeof out->text - 1);
    }
    memcpy(out->text, text, length + 1);
    if (strncmp(text, "unix:", 5) == 0) return parse_unix(source, out->text + 5, out);
    if (strncmp(text, "tcp:", 4) == 0) return parse_tcp(source, out->text + 4, out);
    return wrong(source, text, "\"unix:/path\", \"unix:@name\" or \"tcp:host:port\"");
}
