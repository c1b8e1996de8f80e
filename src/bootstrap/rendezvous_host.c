/* SPDX-License-Identifier: Apache-2.0 */
/* Rank 0's course through a rendezvous: listen, gather, and deliver the cards or the reason why not. */
#include "base/status.h"
#include "bootstrap/hub.h"
#include "bootstrap/listen.h"
#include "bootstrap/sock.h"

/* How long rank 0 stays to tell ranks that have not come yet why they need not. */
enum { LINGER_MS = 5000 };

static onehop_result_t explain_failure(oh_hub_t *hub, int listener, int64_t deadline) {
    int64_t end = oh_deadline_in(LINGER_MS);
    if (end > deadline) end = deadline;
    while (!oh_hub_all_told(hub) && oh_ms_until(end) > 0) {
        if (oh_hub_step(hub, listener, end) != ONEHOP_SUCCESS) break;
    }
    return oh_hub_verdict(hub);
}

static onehop_result_t gather(oh_hub_t *hub, oh_listener_t *listener, int64_t deadline) {
    while (oh_hub_absent(hub) > 0 && oh_hub_verdict(hub) == ONEHOP_SUCCESS) {
        onehop_result_t result = oh_hub_step(hub, listener->fd, oh_hub_deadline(hub));
        if (result != ONEHOP_SUCCESS) oh_hub_fail(hub, result);
    }
    if (oh_hub_verdict(hub) != ONEHOP_SUCCESS) return explain_failure(hub, listener->fd, deadline);
    /* Before anyone can know that all is done and begin anew under the same name. */
    oh_listener_close(listener);
    return oh_hub_deliver(hub);
}

onehop_result_t oh_rendezvous_host(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                                   const oh_time_limit_t *limit) {
    oh_listener_t listener;
    OH_TRY(oh_listen(address, limit->deadline, &listener));
    oh_hub_t *hub;
    onehop_result_t result = oh_hub_open(address, mine, cards, limit, &hub);
    if (result == ONEHOP_SUCCESS) {
        result = gather(hub, &listener, limit->deadline);
        oh_hub_close(hub);
    }
    oh_listener_close(&listener);
    return result;
}
