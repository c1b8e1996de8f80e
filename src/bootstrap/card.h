/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rank tells the others of itself, its form on the wire, and the check that all ranks agree. Pure functions: the
 * same cards give the same sentence on every rank.
 */
#ifndef OH_BOOTSTRAP_CARD_H
#define OH_BOOTSTRAP_CARD_H

#include <stdint.h>

#include "base/config.h"

enum {
    OH_CARD_PROTOCOL = 1, /* changes with the meaning of anything that ranks say to each other */
    OH_CARD_MAGIC_BYTES = 8,
    OH_CARD_BYTES = 1024, /* never changes: a caller's all-gather must find the same size on every rank */
    OH_CARD_NONCE_BYTES = 16
};

typedef struct oh_card {
    /* To here the form is the same in every protocol, so that versions that differ can say so. */
    uint32_t protocol;
    char version[16];
    char job[128];
    int rank, nranks;

    /* Where the rank runs. */
    char machine[40]; /* the kernel's boot id */
    uint64_t net_namespace, pid_namespace;
    uint32_t uid;
    int pid;                 /* as the rank itself sees it */
    unsigned char cpus[128]; /* bit c % 8 of byte c / 8: it may run on processor c */

    /* What it was asked for. */
    onehop_device_t device;
    uint64_t workspace_bytes;
    int timeout_ms, max_blocks;
    char algorithm[OH_NAME_MAX];
    oh_share_t memory;

    /* How to reach it: the abstract name of its socket, "" for a thread, and what a peer says there to be let in. */
    char contact[48];
    unsigned char nonce[OH_CARD_NONCE_BYTES];
} oh_card_t;

extern const unsigned char oh_card_magic[OH_CARD_MAGIC_BYTES];

void oh_card_encode(const oh_card_t *card, unsigned char bytes[OH_CARD_BYTES]);

/* INVALID_ARGUMENT if the bytes are no card. Of a card with another protocol only the first part is filled in. */
onehop_result_t oh_card_decode(const unsigned char bytes[OH_CARD_BYTES], oh_card_t *card);

/* Whether two ranks can be in one gathering at all: same protocol, version and nranks; else MISMATCH. */
onehop_result_t oh_cards_compatible(const oh_card_t *a, const oh_card_t *b);

/* Whether cards[r] is rank r's and all agree: MISMATCH, or UNSUPPORTED where ranks do not run in one place. */
onehop_result_t oh_cards_check(const oh_card_t *cards, int count);

#endif
