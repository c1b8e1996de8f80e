/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets and deadlines: the few things that all who talk to other processes need. */
#ifndef OH_BOOTSTRAP_SOCK_H
#define OH_BOOTSTRAP_SOCK_H

#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/address.h"
#include "base/clock.h"
#include "onehop.h"

static inline int64_t oh_deadline_in(int ms) { return oh_now_ns() + (int64_t)ms * 1000000; }

/* How long all of it may take. */
typedef struct oh_time_limit {
    int64_t deadline;
    int timeout_ms; /* what the deadline was made from, for errors */
} oh_time_limit_t;

/* Milliseconds until the deadline, rounded up, at least 0: what poll() takes. */
int oh_ms_until(int64_t deadline);

/* poll() until the deadline, whatever signals arrive. The number of ready entries; 0 at the deadline; -1: errno. */
int oh_poll_until(struct pollfd *entries, size_t count, int64_t deadline);

/* Lets time pass before another attempt, at most until the deadline. */
void oh_pause_ms(int ms, int64_t deadline);

/* Closes *fd unless it is -1, and makes it -1. */
void oh_close(int *fd);

/* name: a file's path, or "@name" for a name without a file. Returns the length of *out. */
socklen_t oh_unix_address(const char *name, struct sockaddr_un *out);

/* The network addresses of a TCP rendezvous, for freeaddrinfo(). */
onehop_result_t oh_tcp_resolve(const oh_address_t *address, struct addrinfo **out);

/* Who made the other end of a Unix socket; false if unknown. */
bool oh_socket_owner(int fd, struct ucred *out);

typedef enum oh_io { OH_IO_DONE, OH_IO_CLOSED, OH_IO_LATE } oh_io_t;

/* All of the bytes through a non-blocking stream. Anything that ends the connection is OH_IO_CLOSED. */
oh_io_t oh_read_until(int fd, void *bytes, size_t size, int64_t deadline);
oh_io_t oh_write_until(int fd, const void *bytes, size_t size, int64_t deadline);

onehop_result_t oh_random(void *bytes, size_t size);

#endif
