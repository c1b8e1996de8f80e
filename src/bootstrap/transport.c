/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/transport.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

oh_exchange_t oh_exchange_make(const char *what, size_t bytes, bool descriptor) {
    oh_exchange_t exchange = {.bytes = (uint32_t)bytes, .descriptor = descriptor};
    snprintf(exchange.what, sizeof exchange.what, "%s", what);
    return exchange;
}

bool oh_exchange_equal(const oh_exchange_t *a, const oh_exchange_t *b) {
    return a->bytes == b->bytes && a->descriptor == b->descriptor && strcmp(a->what, b->what) == 0;
}

static void show(const oh_exchange_t *exchange, char text[64]) {
    if (exchange->descriptor) {
        snprintf(text, 64, "\"%s\" (a descriptor each)", exchange->what);
    } else {
        snprintf(text, 64, "\"%s\" (%u bytes each)", exchange->what, exchange->bytes);
    }
}

onehop_result_t oh_exchange_mismatch(int a, const oh_exchange_t *left, int b, const oh_exchange_t *right) {
    char left_text[64], right_text[64];
    show(left, left_text);
    show(right, right_text);
    return oh_fail(ONEHOP_MISMATCH, "ranks disagree on what they exchange: rank %d is in %s, rank %d in %s", a,
                   left_text, b, right_text);
}

void oh_ranks_text(const bool *set, int nranks, char text[OH_RANKS_TEXT]) {
    int count = 0;
    for (int r = 0; r < nranks; r++) count += set[r];
    int length = snprintf(text, OH_RANKS_TEXT, "%s", count == 1 ? "rank" : "ranks");
    const char *separator = " ";
    for (int r = 0; r < nranks && length < OH_RANKS_TEXT; r++) {
        if (!set[r]) continue;
        length += snprintf(text + length, (size_t)(OH_RANKS_TEXT - length), "%s%d", separator, r);
        separator = ", ";
    }
}

onehop_result_t oh_patience_ask(const oh_patience_t *patience) {
    return patience->interrupt == NULL ? ONEHOP_SUCCESS : patience->interrupt(patience->ctx);
}
