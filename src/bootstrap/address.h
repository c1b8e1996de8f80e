/* SPDX-License-Identifier: Apache-2.0 */
/* Where ranks meet, as the configuration names it. */
#ifndef OH_BOOTSTRAP_ADDRESS_H
#define OH_BOOTSTRAP_ADDRESS_H

#include <netdb.h>
#include <stdbool.h>

#include "bootstrap/sock.h"

typedef struct oh_address {
    char text[256];                  /* as it was given, for errors */
    char path[OH_UNIX_NAME_MAX + 1]; /* "/path" or "@name"; "" for TCP */
    char host[240], port[8];
} oh_address_t;

static inline bool oh_address_is_unix(const oh_address_t *address) { return address->path[0] != '\0'; }
static inline bool oh_address_is_file(const oh_address_t *address) { return address->path[0] == '/'; }

/* INVALID_ARGUMENT unless `text` is "unix:/path", "unix:@name" or "tcp:host:port". */
onehop_result_t oh_address_parse(const char *text, oh_address_t *out);

/* The network addresses of a TCP rendezvous, for freeaddrinfo(). */
onehop_result_t oh_address_resolve(const oh_address_t *address, struct addrinfo **out);

#endif
