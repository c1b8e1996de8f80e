/* SPDX-License-Identifier: Apache-2.0 */
/* Where ranks meet, as it is written: "unix:/path", "unix:@name" (no file) or "tcp:host:port". */
#ifndef OH_BASE_ADDRESS_H
#define OH_BASE_ADDRESS_H

#include <stdbool.h>

#include "onehop.h"

enum { OH_UNIX_NAME_MAX = 107 }; /* what a Unix socket's address holds, less its end */

typedef struct oh_address {
    char text[256];                  /* as it was given; "": no address */
    char path[OH_UNIX_NAME_MAX + 1]; /* "/path" or "@name"; "" for TCP */
    char host[240], port[8];
} oh_address_t;

static inline bool oh_address_is_unix(const oh_address_t *address) { return address->path[0] != '\0'; }
static inline bool oh_address_is_file(const oh_address_t *address) { return address->path[0] == '/'; }

/* INVALID_ARGUMENT, naming `source` (a field or a variable), unless `text` is an address. */
onehop_result_t oh_address_parse(const char *source, const char *text, oh_address_t *out);

#endif
