/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/local.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"

/* What one rank brought to one exchange. */
typedef struct box {
    oh_exchange_t exchange;
    int fd;
    unsigned char bytes[OH_EXCHANGE_MAX];
} box_t;

/*
 * Two boxes each, used in turn: a rank fills a box again in exchange e+2, which it reaches only once all have come to
 * e+1, and so have left e.
 */
typedef struct seat {
    uint64_t exchanges; /* how many this rank has come to */
    bool left;
    box_t box[2];
} seat_t;

struct oh_local_group {
    atomic_int users; /* not under the mutex, which a child made by fork may find locked for ever */
    pid_t owner;
    int nranks;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    onehop_result_t failed; /* of the first rank that failed, and its words: all give the same, ... */
    char failure[OH_ERROR_TEXT];
    uint64_t failed_at; /* ... in this exchange and those after it */
    seat_t seats[];
};

typedef struct local {
    oh_transport_t transport;
    oh_local_group_t *group;
    int rank;
} local_t;

static local_t *local_of(oh_transport_t *transport) { return (local_t *)(void *)transport; }

onehop_result_t oh_local_group_create(int nranks, oh_local_group_t **out) {
    oh_local_group_t *group = calloc(1, sizeof *group + (size_t)nranks * sizeof(seat_t));
    if (group == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&group->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&group->mutex, NULL);
    atomic_init(&group->users, 1);
    group->owner = getpid();
    group->nranks = nranks;
    *out = group;
    return ONEHOP_SUCCESS;
}

void oh_local_group_release(oh_local_group_t *group) {
    if (atomic_fetch_sub(&group->users, 1) != 1) return;
    /* In a child made by fork the threads that waited are not there, and destroying would wait for them. */
    if (group->owner == getpid()) {
        pthread_cond_destroy(&group->changed);
        pthread_mutex_destroy(&group->mutex);
    }
    free(group);
}

/* With the mutex held. */
static onehop_result_t fail_all(oh_local_group_t *group, uint64_t number, onehop_result_t code) {
    if (group->failed == ONEHOP_SUCCESS) {
        group->failed = code;
        group->failed_at = number;
        snprintf(group->failure, sizeof group->failure, "%s", onehop_last_error());
        pthread_cond_broadcast(&group->changed);
    }
    return code;
}

static onehop_result_t repeat_failure(const oh_local_group_t *group) {
    return oh_fail(group->failed, "%s", group->failure);
}

/* Sleeps until something changes, at most until the deadline, and no longer than a slice if someone must be asked. */
static void sleep_a_while(oh_local_group_t *group, int64_t deadline, bool slices) {
    int64_t end = oh_now_ns() + (int64_t)OH_WAIT_SLICE_MS * 1000000;
    if (!slices || end > deadline) end = deadline;
    struct timespec at = {.tv_sec = (time_t)(end / 1000000000), .tv_nsec = (long)(end % 1000000000)};
    pthread_cond_timedwait(&group->changed, &group->mutex, &at);
}

/* Which ranks have not come to exchange number `number`; returns how many. */
static int find_missing(const oh_local_group_t *group, uint64_t number, bool *missing) {
    int count = 0;
    for (int r = 0; r < group->nranks; r++) count += missing[r] = group->seats[r].exchanges < number;
    return count;
}

static onehop_result_t wait_for_all(oh_local_group_t *group, uint64_t number, const char *what,
                                    const oh_patience_t *patience) {
    const int64_t deadline = oh_now_ns() + (int64_t)patience->timeout_ms * 1000000;
    for (;;) {
        bool missing[ONEHOP_MAX_RANKS];
        if (group->failed != ONEHOP_SUCCESS && group->failed_at <= number) return repeat_failure(group);
        if (find_missing(group, number, missing) == 0) return ONEHOP_SUCCESS;
        OH_TRY(oh_patience_ask(patience));
        for (int r = 0; r < group->nranks; r++) {
            if (missing[r] && group->seats[r].left) {
                return oh_fail(ONEHOP_PEER_LOST, "rank %d (a thread of pid %d) has left; \"%s\" waited for it", r,
                               (int)group->owner, what);
            }
        }
        if (oh_now_ns() >= deadline) {
            char ranks[OH_RANKS_TEXT];
            oh_ranks_text(missing, group->nranks, ranks);
            return oh_fail(ONEHOP_TIMEOUT, "%s of %d did not come to \"%s\" within %d ms", ranks, group->nranks, what,
                           patience->timeout_ms);
        }
        sleep_a_while(group, deadline, patience->interrupt != NULL);
    }
}

static onehop_result_t compare(const oh_local_group_t *group, uint64_t number) {
    const oh_exchange_t *first = &group->seats[0].box[number % 2].exchange;
    for (int r = 1; r < group->nranks; r++) {
        const oh_exchange_t *other = &group->seats[r].box[number % 2].exchange;
        if (!oh_exchange_equal(first, other)) return oh_exchange_mismatch(0, first, r, other);
    }
    return ONEHOP_SUCCESS;
}

/* With the mutex held: brings what this rank has, and waits until all have; their boxes are then those of *number. */
static onehop_result_t meet(local_t *local, const oh_exchange_t *exchange, const void *bytes, int fd,
                            const oh_patience_t *patience, uint64_t *number) {
    oh_local_group_t *group = local->group;
    seat_t *seat = &group->seats[local->rank];
    *number = ++seat->exchanges;
    box_t *box = &seat->box[*number % 2];
    box->exchange = *exchange;
    box->fd = fd;
    if (exchange->bytes > 0) memcpy(box->bytes, bytes, exchange->bytes);
    pthread_cond_broadcast(&group->changed);
    onehop_result_t result = wait_for_all(group, *number, exchange->what, patience);
    if (result == ONEHOP_SUCCESS) result = compare(group, *number);
    return result == ONEHOP_SUCCESS ? result : fail_all(group, *number, result);
}

static onehop_result_t allgather(oh_transport_t *transport, const char *what, const void *mine, void *all,
                                 size_t bytes_each, const oh_patience_t *patience) {
    local_t *local = local_of(transport);
    oh_local_group_t *group = local->group;
    oh_exchange_t exchange = oh_exchange_make(what, bytes_each, false);
    uint64_t number;
    pthread_mutex_lock(&group->mutex);
    onehop_result_t result = meet(local, &exchange, mine, -1, patience, &number);
    for (int r = 0; result == ONEHOP_SUCCESS && r < group->nranks; r++) {
        memcpy((char *)all + (size_t)r * bytes_each, group->seats[r].box[number % 2].bytes, bytes_each);
    }
    pthread_mutex_unlock(&group->mutex);
    return result;
}

/* With the mutex held, and none having failed: every rank is still in the call, its descriptor still open. */
static onehop_result_t duplicate_all(const local_t *local, uint64_t number, int *fds) {
    for (int r = 0; r < local->group->nranks; r++) {
        int fd = local->group->seats[r].box[number % 2].fd;
        if (r == local->rank || fd < 0) continue;
        fds[r] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (fds[r] < 0) return oh_fail_errno("rank %d cannot duplicate the descriptor of rank %d", local->rank, r);
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t exchange_locked(local_t *local, const char *what, int fd, int *fds,
                                       const oh_patience_t *patience) {
    oh_local_group_t *group = local->group;
    oh_exchange_t exchange = oh_exchange_make(what, 0, true);
    uint64_t number;
    OH_TRY(meet(local, &exchange, NULL, fd, patience, &number));
    /* Who has failed since may have closed its own. */
    if (group->failed != ONEHOP_SUCCESS) return repeat_failure(group);
    onehop_result_t result = duplicate_all(local, number, fds);
    if (result != ONEHOP_SUCCESS) return fail_all(group, number, result);
    /* Nobody returns, and closes its own, before all have a duplicate. */
    return meet(local, &exchange, NULL, -1, patience, &number);
}

static onehop_result_t exchange_fd(oh_transport_t *transport, const char *what, int fd, int *fds,
                                   const oh_patience_t *patience) {
    local_t *local = local_of(transport);
    for (int r = 0; r < local->group->nranks; r++) fds[r] = -1;
    pthread_mutex_lock(&local->group->mutex);
    onehop_result_t result = exchange_locked(local, what, fd, fds, patience);
    pthread_mutex_unlock(&local->group->mutex);
    for (int r = 0; result != ONEHOP_SUCCESS && r < local->group->nranks; r++) {
        if (fds[r] >= 0) close(fds[r]);
        fds[r] = -1;
    }
    return result;
}

static int count_gone(oh_transport_t *transport, bool *gone) {
    memset(gone, 0, (size_t)local_of(transport)->group->nranks * sizeof *gone);
    return 0;
}

static pid_t pid_of(const oh_transport_t *transport, int rank) {
    (void)rank;
    return ((const local_t *)(const void *)transport)->group->owner;
}

static void close_local(oh_transport_t *transport) {
    local_t *local = local_of(transport);
    oh_local_group_t *group = local->group;
    if (group->owner == getpid()) {
        pthread_mutex_lock(&group->mutex);
        group->seats[local->rank].left = true;
        pthread_cond_broadcast(&group->changed);
        pthread_mutex_unlock(&group->mutex);
    }
    oh_local_group_release(group);
    free(local);
}

onehop_result_t oh_local_open(oh_local_group_t *group, int rank, oh_transport_t **out) {
    static const oh_transport_ops_t ops = {allgather, exchange_fd, count_gone, pid_of, close_local};
    local_t *local = calloc(1, sizeof *local);
    if (local == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    local->transport.ops = &ops;
    local->group = group;
    local->rank = rank;
    atomic_fetch_add(&group->users, 1);
    *out = &local->transport;
    return ONEHOP_SUCCESS;
}
