/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/mesh_message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint32_t message_magic = 0x4f48504d;

oh_message_t oh_message_make(oh_message_kind_t kind, int code, const oh_exchange_t *exchange) {
    return (oh_message_t){.magic = message_magic, .kind = kind, .code = code, .exchange = *exchange};
}

/* Room, rightly aligned, for one descriptor on its way. */
typedef union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
} control_t;

oh_delivery_t oh_message_send(int socket, const oh_message_t *message, const void *bytes, int fd) {
    oh_message_t copy = *message;
    copy.has_fd = fd >= 0;
    struct iovec parts[2] = {{.iov_base = &copy, .iov_len = sizeof copy},
                             {.iov_base = (void *)(uintptr_t)bytes, .iov_len = copy.exchange.bytes}};
    struct msghdr envelope = {.msg_iov = parts, .msg_iovlen = copy.exchange.bytes > 0 ? 2 : 1};
    control_t control = {0};
    if (fd >= 0) {
        envelope.msg_control = control.bytes;
        envelope.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&envelope);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    for (;;) {
        if (sendmsg(socket, &envelope, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return OH_DELIVERY_DONE;
        if (errno == EAGAIN) return OH_DELIVERY_LATER;
        if (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM) return OH_DELIVERY_CROWDED;
        if (errno != EINTR) return OH_DELIVERY_CLOSED;
    }
}

/* Keeps the first descriptor that came and closes any others. */
static int take_descriptor(struct msghdr *envelope) {
    int kept = -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(envelope); header != NULL; header = CMSG_NXTHDR(envelope, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            if (kept < 0) {
                kept = fd;
            } else {
                close(fd);
            }
        }
    }
    return kept;
}

oh_delivery_t oh_message_receive(int socket, oh_message_t *message, void *bytes, int *fd) {
    *fd = -1;
    control_t control = {0};
    struct iovec parts[2] = {{.iov_base = message, .iov_len = sizeof *message},
                             {.iov_base = bytes, .iov_len = OH_EXCHANGE_MAX}};
    struct msghdr envelope;
    ssize_t size;
    do {
        envelope = (struct msghdr){
            .msg_iov = parts, .msg_iovlen = 2, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
        size = recvmsg(socket, &envelope, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        /* A peer that hung up without reading all gives ECONNRESET once; what it has sent comes after. */
    } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
    if (size < 0) return errno == EAGAIN ? OH_DELIVERY_LATER : OH_DELIVERY_CLOSED;
    *fd = take_descriptor(&envelope);
    bool whole = (size_t)size >= sizeof *message && (envelope.msg_flags & MSG_TRUNC) == 0 &&
                 message->magic == message_magic && message->exchange.bytes == (size_t)size - sizeof *message &&
                 memchr(message->exchange.what, '\0', sizeof message->exchange.what) != NULL;
    if (whole && message->has_fd == (*fd >= 0)) return OH_DELIVERY_DONE;
    oh_delivery_t outcome = whole && (envelope.msg_flags & MSG_CTRUNC) != 0 ? OH_DELIVERY_NO_ROOM : OH_DELIVERY_CLOSED;
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return outcome;
}

bool oh_message_is_failure(int socket) {
    oh_message_t message;
    ssize_t size;
    do {
        size = recv(socket, &message, sizeof message, MSG_PEEK | MSG_DONTWAIT);
    } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
    return size == (ssize_t)sizeof message && message.magic == message_magic && message.kind == OH_MESSAGE_FAILURE;
}
