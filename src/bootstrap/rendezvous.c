/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/rendezvous.h"

#include <string.h>

#include "bootstrap/wire.h"

const unsigned char oh_reply_magic[OH_REPLY_MAGIC_BYTES] = {'O', 'N', 'E', 'H', 'O', 'P', '>', '\n'};

void oh_reply_header(unsigned char bytes[OH_REPLY_BYTES], oh_reply_t kind, size_t length) {
    memcpy(bytes, oh_reply_magic, sizeof oh_reply_magic);
    oh_put32(bytes + OH_REPLY_MAGIC_BYTES, (uint32_t)kind);
    oh_put32(bytes + OH_REPLY_MAGIC_BYTES + 4, (uint32_t)length);
}

onehop_result_t oh_rendezvous(const oh_address_t *address, const oh_card_t *mine, oh_card_t *cards,
                              const oh_time_limit_t *limit) {
    return mine->rank == 0 ? oh_rendezvous_host(address, mine, cards, limit)
                           : oh_rendezvous_join(address, mine, cards, limit);
}
