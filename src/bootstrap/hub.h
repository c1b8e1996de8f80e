/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rank 0's side of a rendezvous: one state per connection, none of which is ever waited for. Connections are taken in
 * apart from the socket they come from, so that a fuzzer can hand over its own.
 */
#ifndef OH_BOOTSTRAP_HUB_H
#define OH_BOOTSTRAP_HUB_H

#include "bootstrap/rendezvous.h"

typedef struct oh_hub oh_hub_t;

/* cards: as of oh_rendezvous; cards[0] is filled in with `mine`. The hub refers to *address. */
onehop_result_t oh_hub_open(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                            const oh_time_limit_t *limit, oh_hub_t **out);

/* Takes over a connection, perhaps to close it at once. */
void oh_hub_adopt(oh_hub_t *hub, int socket);

/* Serves listener (-1: none) and connections until something has happened, or until the time given. */
onehop_result_t oh_hub_step(oh_hub_t *hub, int listener, int64_t until);

/* How many ranks have not come; 0: the cards are complete. */
int oh_hub_absent(const oh_hub_t *hub);

/* ONEHOP_SUCCESS while the gathering can still succeed; else its failure, as the last error. */
onehop_result_t oh_hub_verdict(const oh_hub_t *hub);

/* Makes the last error the verdict, and tells all who have come or will still come. Returns `code`. */
onehop_result_t oh_hub_fail(oh_hub_t *hub, onehop_result_t code);

/* Whether all ranks have been told of the failure. */
bool oh_hub_all_told(const oh_hub_t *hub);

/* When the first of those who have come will give up. */
int64_t oh_hub_deadline(const oh_hub_t *hub);

/* Sends the cards to all who have come. */
onehop_result_t oh_hub_deliver(oh_hub_t *hub);

void oh_hub_close(oh_hub_t *hub);

#endif
