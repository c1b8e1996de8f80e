/* SPDX-License-Identifier: Apache-2.0 */
/* The socket that rank 0 listens on during a rendezvous. */
#ifndef OH_BOOTSTRAP_LISTEN_H
#define OH_BOOTSTRAP_LISTEN_H

#include "base/address.h"

typedef struct oh_listener {
    int fd;           /* -1: closed */
    const char *path; /* the file to remove, or NULL */
} oh_listener_t;

/*
 * A socket file left behind by a process that died is replaced; a name in use is SYSTEM_ERROR. The listener refers to
 * *address.
 */
onehop_result_t oh_listen(const oh_address_t *address, int64_t deadline, oh_listener_t *out);

void oh_listener_close(oh_listener_t *listener);

#endif
