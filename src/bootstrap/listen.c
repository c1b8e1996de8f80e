/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/sock.h"

enum { BACKLOG = 128 };

static int unix_socket(void) { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

/* Who listens at the address: a pid; 0 if it cannot be known; -1 if nobody does. */
static int find_listener(const struct sockaddr_un *address, socklen_t length) {
    int probe = unix_socket(), pid = 0;
    if (probe < 0) return 0;
    struct ucred owner;
    if (connect(probe, (const struct sockaddr *)(const void *)address, length) == 0) {
        if (oh_socket_owner(probe, &owner)) pid = owner.pid;
    } else if (errno == ECONNREFUSED) {
        pid = -1;
    }
    close(probe);
    return pid;
}

static onehop_result_t in_use(const oh_address_t *address, int pid) {
    if (pid <= 0) return oh_fail(ONEHOP_SYSTEM_ERROR, "rendezvous %s is already in use", address->text);
    return oh_fail(ONEHOP_SYSTEM_ERROR, "rendezvous %s is already in use by process %d", address->text, pid);
}

/*
 * Between bind() and listen() a live socket looks like one left behind. So who binds a file holds a lock on its
 * directory from before bind() until it listens, and whoever is refused under the lock can be replaced.
 */
static onehop_result_t lock_directory(const oh_address_t *address, int64_t deadline, int *out) {
    char directory[sizeof address->path];
    size_t length = (size_t)(strrchr(address->path, '/') - address->path);
    memcpy(directory, address->path, length);
    directory[length] = '\0';
    int fd = open(length == 0 ? "/" : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return oh_fail_errno("rendezvous %s: cannot open the directory", address->text);
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || oh_ms_until(deadline) == 0) {
            onehop_result_t result = oh_fail_errno("rendezvous %s: cannot lock the directory", address->text);
            close(fd);
            return result;
        }
        oh_pause_ms(1, deadline);
    }
    *out = fd;
    return ONEHOP_SUCCESS;
}

static onehop_result_t bind_unix(const oh_address_t *address, int fd) {
    struct sockaddr_un name;
    socklen_t length = oh_unix_address(address->path, &name);
    /* Linux gives the file the socket's mode, less the umask: there is no moment when others may connect. */
    if (fchmod(fd, 0600) != 0) return oh_fail_errno("fchmod");
    for (bool replaced = false;; replaced = true) {
        if (bind(fd, (const struct sockaddr *)(const void *)&name, length) == 0) break;
        if (errno != EADDRINUSE || replaced) return oh_fail_errno("rendezvous %s: bind", address->text);
        int pid = find_listener(&name, length);
        if (pid >= 0 || !oh_address_is_file(address)) return in_use(address, pid);
        struct stat status;
        if (lstat(address->path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
            return oh_fail(ONEHOP_INVALID_ARGUMENT, "rendezvous %s: the file exists and is not a socket",
                           address->text);
        }
        if (unlink(address->path) != 0 && errno != ENOENT) {
            return oh_fail_errno("rendezvous %s: cannot replace the socket that a dead process left", address->text);
        }
    }
    if (listen(fd, BACKLOG) == 0) return ONEHOP_SUCCESS;
    onehop_result_t result = oh_fail_errno("rendezvous %s: listen", address->text);
    if (oh_address_is_file(address)) unlink(address->path);
    return result;
}

static onehop_result_t listen_unix(const oh_address_t *address, int64_t deadline, oh_listener_t *out) {
    int lock = -1, fd = unix_socket();
    if (fd < 0) return oh_fail_errno("socket");
    onehop_result_t result = ONEHOP_SUCCESS;
    if (oh_address_is_file(address)) result = lock_directory(address, deadline, &lock);
    if (result == ONEHOP_SUCCESS) result = bind_unix(address, fd);
    oh_close(&lock);
    if (result != ONEHOP_SUCCESS) {
        close(fd);
        return result;
    }
    *out = (oh_listener_t){.fd = fd, .path = oh_address_is_file(address) ? address->path : NULL};
    return ONEHOP_SUCCESS;
}

static onehop_result_t listen_tcp(const oh_address_t *address, oh_listener_t *out) {
    struct addrinfo *found;
    OH_TRY(oh_tcp_resolve(address, &found));
    int fd = -1, error = 0;
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        int on = 1;
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
            bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
            continue;
        }
        error = errno;
        oh_close(&fd);
    }
    freeaddrinfo(found);
    *out = (oh_listener_t){.fd = fd};
    if (fd >= 0) return ONEHOP_SUCCESS;
    errno = error;
    return oh_fail_errno("rendezvous %s: rank 0 cannot listen there", address->text);
}

onehop_result_t oh_listen(const oh_address_t *address, int64_t deadline, oh_listener_t *out) {
    return oh_address_is_unix(address) ? listen_unix(address, deadline, out) : listen_tcp(address, out);
}

/* The file goes first: while it is there it leads to a live socket, so that nobody thinks it left behind. */
void oh_listener_close(oh_listener_t *listener) {
    if (listener->fd >= 0 && listener->path != NULL) unlink(listener->path);
    oh_close(&listener->fd);
}
