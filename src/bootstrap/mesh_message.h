/* SPDX-License-Identifier: Apache-2.0 */
/* One message between two ranks of the mesh: a header, bytes, perhaps a descriptor. Same machine, same version: the
 * header travels as it lies in memory. */
#ifndef OH_BOOTSTRAP_MESH_MESSAGE_H
#define OH_BOOTSTRAP_MESH_MESSAGE_H

#include "bootstrap/transport.h"

typedef enum oh_message_kind {
    OH_MESSAGE_HELLO,   /* code: the sender's rank; its nonce */
    OH_MESSAGE_DATA,    /* what an exchange brings */
    OH_MESSAGE_FAILURE, /* code: a onehop_result_t; the sentence */
} oh_message_kind_t;

typedef struct oh_message {
    uint32_t magic;
    uint32_t kind;
    int32_t code;
    uint32_t has_fd;
    oh_exchange_t exchange; /* exchange.bytes: how many bytes follow */
} oh_message_t;

typedef enum oh_delivery {
    OH_DELIVERY_DONE,
    OH_DELIVERY_LATER,   /* the socket is full, or empty */
    OH_DELIVERY_CROWDED, /* too many descriptors are on their way; a socket that polls ready does not mean otherwise */
    OH_DELIVERY_CLOSED,  /* the other side has hung up, or spoke nonsense */
    OH_DELIVERY_NO_ROOM  /* a descriptor came, and this process has no place for it */
} oh_delivery_t;

oh_message_t oh_message_make(oh_message_kind_t kind, int code, const oh_exchange_t *exchange);

/* fd: -1, or what goes with it. */
oh_delivery_t oh_message_send(int socket, const oh_message_t *message, const void *bytes, int fd);

/* bytes has room for OH_EXCHANGE_MAX. *fd becomes the caller's, -1 if none came. */
oh_delivery_t oh_message_receive(int socket, oh_message_t *message, void *bytes, int *fd);

/* Whether the next message to be received is one of failure; it stays to be received. */
bool oh_message_is_failure(int socket);

#endif
