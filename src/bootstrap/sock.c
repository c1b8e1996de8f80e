/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/sock.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/status.h"

int oh_ms_until(int64_t deadline) {
    int64_t left = deadline - oh_now_ns();
    if (left <= 0) return 0;
    int64_t ms = (left + 999999) / 1000000;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

int oh_poll_until(struct pollfd *entries, size_t count, int64_t deadline) {
    for (;;) {
        int ready = poll(entries, (nfds_t)count, oh_ms_until(deadline));
        if (ready >= 0 || errno != EINTR) return ready;
    }
}

void oh_pause_ms(int ms, int64_t deadline) {
    int64_t end = oh_deadline_in(ms);
    oh_poll_until(NULL, 0, end < deadline ? end : deadline);
}

void oh_close(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

_Static_assert(OH_UNIX_NAME_MAX == sizeof(((struct sockaddr_un *)0)->sun_path) - 1, "room for the end");

socklen_t oh_unix_address(const char *name, struct sockaddr_un *out) {
    size_t length = strnlen(name, OH_UNIX_NAME_MAX);
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path, name, length);
    /* A name without a file begins with a zero, and ends where the address does. */
    if (name[0] == '@') out->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] == '@' ? 0 : 1));
}

onehop_result_t oh_tcp_resolve(const oh_address_t *address, struct addrinfo **out) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int error = getaddrinfo(address->host, address->port, &hints, out);
    if (error == 0) return ONEHOP_SUCCESS;
    if (error == EAI_SYSTEM) return oh_fail_errno("rendezvous %s: getaddrinfo", address->text);
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "rendezvous %s: the host cannot be found: %s", address->text,
                   gai_strerror(error));
}

bool oh_socket_owner(int fd, struct ucred *out) {
    socklen_t size = sizeof *out;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &size) == 0;
}

static oh_io_t wait_for(int fd, short events, int64_t deadline) {
    struct pollfd entry = {.fd = fd, .events = events};
    int ready = oh_poll_until(&entry, 1, deadline);
    return ready > 0 ? OH_IO_DONE : ready == 0 ? OH_IO_LATE : OH_IO_CLOSED;
}

oh_io_t oh_read_until(int fd, void *bytes, size_t size, int64_t deadline) {
    for (size_t done = 0; done < size;) {
        ssize_t n = recv(fd, (char *)bytes + done, size - done, MSG_DONTWAIT);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            oh_io_t outcome = wait_for(fd, POLLIN, deadline);
            if (outcome != OH_IO_DONE) return outcome;
        } else {
            return OH_IO_CLOSED;
        }
    }
    return OH_IO_DONE;
}

oh_io_t oh_write_until(int fd, const void *bytes, size_t size, int64_t deadline) {
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fd, (const char *)bytes + done, size - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            oh_io_t outcome = wait_for(fd, POLLOUT, deadline);
            if (outcome != OH_IO_DONE) return outcome;
        } else {
            return OH_IO_CLOSED;
        }
    }
    return OH_IO_DONE;
}

onehop_result_t oh_random(void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = getrandom((char *)bytes + done, size - done, 0);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            return oh_fail_errno("getrandom");
        }
    }
    return ONEHOP_SUCCESS;
}
