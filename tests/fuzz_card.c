/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as cards: those that are none are refused, and the others agree, or disagree in a sentence. */
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "bootstrap/card.h"

enum { CARDS = 4 };

static void require(int condition) {
    if (!condition) abort();
}

/* A good card, as far as one goes. */
static void make_card(int rank, unsigned char bytes[OH_CARD_BYTES]) {
    oh_card_t card = {.protocol = OH_CARD_PROTOCOL,
                      .version = "1.2.3",
                      .job = "job",
                      .rank = rank,
                      .nranks = CARDS,
                      .machine = "machine",
                      .pid = 1 + rank,
                      .workspace_bytes = 65536,
                      .timeout_ms = 1,
                      .algorithm = "auto",
                      .contact = "@contact"};
    oh_card_encode(&card, bytes);
}

/* What is decoded is encoded again, and means the same. Returns whether it is a card. */
static int decode(const unsigned char bytes[OH_CARD_BYTES], oh_card_t *card) {
    onehop_result_t result = oh_card_decode(bytes, card);
    require(result == ONEHOP_SUCCESS || (result == ONEHOP_INVALID_ARGUMENT && onehop_last_error()[0] != '\0'));
    if (result != ONEHOP_SUCCESS) return 0;
    require(card->nranks >= 1 && card->nranks <= ONEHOP_MAX_RANKS && card->rank >= 0 && card->rank < card->nranks);
    unsigned char once[OH_CARD_BYTES], twice[OH_CARD_BYTES];
    oh_card_t copy;
    oh_card_encode(card, once);
    require(oh_card_decode(once, &copy) == ONEHOP_SUCCESS);
    oh_card_encode(&copy, twice);
    require(memcmp(once, twice, sizeof once) == 0);
    return 1;
}

/*
 * The first byte tells what the rest is: whole cards, or changes to good ones, three bytes each: which byte of which
 * card, and what it becomes.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static unsigned char bytes[CARDS][OH_CARD_BYTES];
    if (size == 0) return 0;
    for (int r = 0; r < CARDS; r++) make_card(r, bytes[r]);
    if (data[0] % 2 == 0) {
        size_t length = size - 1 < sizeof bytes ? size - 1 : sizeof bytes;
        memcpy(bytes, data + 1, length);
    } else {
        for (size_t i = 1; i + 3 <= size; i += 3) {
            size_t at = ((size_t)data[i] << 8 | data[i + 1]) % sizeof bytes;
            bytes[at / OH_CARD_BYTES][at % OH_CARD_BYTES] = data[i + 2];
        }
    }
    oh_card_t cards[CARDS];
    int count = 0;
    for (int i = 0; i < CARDS; i++) count += decode(bytes[i], &cards[count]);
    if (count == 0) return 0;

    onehop_result_t result = oh_cards_check(cards, count);
    require(result == ONEHOP_SUCCESS || result == ONEHOP_MISMATCH || result == ONEHOP_UNSUPPORTED);
    if (result != ONEHOP_SUCCESS) {
        char sentence[OH_ERROR_TEXT];
        strcpy(sentence, onehop_last_error());
        require(oh_cards_check(cards, count) == result && strcmp(sentence, onehop_last_error()) == 0);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        require(cards[i].rank == i && oh_cards_compatible(&cards[0], &cards[i]) == ONEHOP_SUCCESS);
        require(cards[i].workspace_bytes == cards[0].workspace_bytes && cards[i].uid == cards[0].uid);
    }
    return 0;
}
