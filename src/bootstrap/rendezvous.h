/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An all-gather of cards between processes that know nothing of each other but an address. Rank 0 listens there; the
 * others connect, again and again until it does.
 *
 *   joiner  -> rank 0   its card, and how long it will wait (OH_GREETING_BYTES)
 *   rank 0  -> joiner   ACCEPTED (its pid), then CARDS (all of them, in rank order); or REFUSED (a result, a sentence)
 *
 * A reply is OH_REPLY_BYTES of header: magic, kind, length of the rest. Numbers are little-endian. A connection that
 * ends before ACCEPTED means nothing, and is tried again; one that ends after it means that a process is lost.
 */
#ifndef OH_BOOTSTRAP_RENDEZVOUS_H
#define OH_BOOTSTRAP_RENDEZVOUS_H

#include "base/address.h"
#include "bootstrap/card.h"
#include "bootstrap/sock.h"

enum {
    OH_GREETING_BYTES = OH_CARD_BYTES + 4,
    OH_REPLY_MAGIC_BYTES = 8,
    OH_REPLY_BYTES = OH_REPLY_MAGIC_BYTES + 8,
};

typedef enum oh_reply { OH_REPLY_ACCEPTED = 1, OH_REPLY_CARDS = 2, OH_REPLY_REFUSED = 3 } oh_reply_t;

extern const unsigned char oh_reply_magic[OH_REPLY_MAGIC_BYTES];
void oh_reply_header(unsigned char bytes[OH_REPLY_BYTES], oh_reply_t kind, size_t length);

/*
 * cards[0 ... nranks-1] receives the cards of all ranks, which are compatible and complete, but not yet checked. A
 * failure of one rank is the failure of all that can be reached.
 */
onehop_result_t oh_rendezvous(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                              const oh_time_limit_t *limit);

/* Its two sides. */
onehop_result_t oh_rendezvous_host(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                                   const oh_time_limit_t *limit);
onehop_result_t oh_rendezvous_join(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                                   const oh_time_limit_t *limit);

#endif
