/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures how far apart the ranks are: a token goes round them some times, and the quickest round counts, since
 * anything else delays only. `token` is written by its rank alone and grows; rank r passes round i on when rank r-1
 * has. Rank 0 writes signal_ns before its last token (release); the others read it after they have seen that
 * (acquire), and it is written again only in a later probe, which begins after they have all published a later header.
 */
#include "backend/host/host.h"
#include "base/clock.h"

enum {
    ROUNDS = 24,
    OPERATIONS = 64 /* between two looks at the clock */
};

static const int64_t interval_min_ns = 1000000;     /* after a change */
static const int64_t interval_max_ns = 50000000;    /* in the end: virtual processors are moved within seconds */
static const int64_t interval_shared_ns = 10000000; /* while ranks share a processor that need not: not for long */

bool oh_host_probe_is_due(const oh_host_t *host) {
    return host->rank == 0 && host->header % OPERATIONS == 0 && !host->topology.crowded && oh_now_ns() > host->probe_ns;
}

/* Soon after a change of placement, then less and less often. */
static void schedule(oh_host_t *host, oh_placement_t before) {
    oh_placement_t now = host->topology.placement;
    int64_t limit = now == OH_OVERSUBSCRIBED ? interval_shared_ns : interval_max_ns;
    int64_t interval = now == before ? host->probe_interval_ns * 2 : interval_min_ns;
    if (interval < interval_min_ns) interval = interval_min_ns;
    if (interval > limit) interval = limit;
    host->probe_interval_ns = interval;
    host->probe_ns = oh_now_ns() + interval;
}

static void pass_on(oh_host_t *host, uint64_t round) {
    oh_host_publish(host, &host->segment[host->rank]->token, round);
}

static onehop_result_t receive(oh_host_t *host, uint64_t round) {
    int previous = (host->rank + host->nranks - 1) % host->nranks;
    return oh_host_wait(host, previous, &host->segment[previous]->token, round);
}

onehop_result_t oh_host_probe(oh_host_t *host) {
    int64_t best = INT64_MAX;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t round = ++host->token;
        if (host->rank == 0) {
            int64_t begin = oh_now_ns();
            pass_on(host, round);
            OH_TRY(receive(host, round));
            int64_t time = oh_now_ns() - begin;
            if (time < best) best = time;
        } else {
            OH_TRY(receive(host, round));
            pass_on(host, round);
        }
    }
    uint64_t last = ++host->token;
    oh_segment_t *first = host->segment[0];
    if (host->rank == 0) {
        first->signal_ns = (double)best / host->nranks;
        pass_on(host, last);
    } else {
        OH_TRY(oh_host_wait(host, 0, &first->token, last));
        pass_on(host, last);
    }
    oh_placement_t before = host->topology.placement;
    oh_topology_measured(&host->topology, first->signal_ns);
    schedule(host, before);
    return ONEHOP_SUCCESS;
}
