/* SPDX-License-Identifier: Apache-2.0 */
/* Cards: what is encoded is decoded, what is no card is refused, and every disagreement is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "bootstrap/card.h"

#include <cmocka.h>

static oh_card_t make_card(int rank, int nranks) {
    oh_card_t card;
    memset(&card, 0, sizeof card); /* padding too: cards are compared as memory */
    card.protocol = OH_CARD_PROTOCOL;
    snprintf(card.version, sizeof card.version, "1.2.3");
    snprintf(card.job, sizeof card.job, "a job");
    card.rank = rank;
    card.nranks = nranks;
    snprintf(card.machine, sizeof card.machine, "01234567-89ab-cdef-0123-456789abcdef");
    card.net_namespace = UINT64_C(0xfedcba9876543210);
    card.pid_namespace = 2;
    card.uid = UINT32_MAX;
    card.pid = 1000 + rank;
    for (size_t i = 0; i < sizeof card.cpus; i++) card.cpus[i] = (unsigned char)(i * 7);
    card.device = ONEHOP_DEVICE_HOST;
    card.workspace_bytes = 32 << 20;
    card.timeout_ms = 30000;
    card.max_blocks = 16;
    snprintf(card.algorithm, sizeof card.algorithm, "auto");
    snprintf(card.contact, sizeof card.contact, "@onehop-%d", rank);
    for (size_t i = 0; i < sizeof card.nonce; i++) card.nonce[i] = (unsigned char)(200 + i);
    card.memory = OH_SHARE_IPC;
    return card;
}

static void test_round_trip(void **state) {
    (void)state;
    oh_card_t card = make_card(63, 64), copy;
    unsigned char bytes[OH_CARD_BYTES], again[OH_CARD_BYTES];
    card.device = ONEHOP_DEVICE_AUTO;
    memset(card.job, 'j', sizeof card.job - 1);
    oh_card_encode(&card, bytes);
    assert_int_equal(oh_card_decode(bytes, &copy), ONEHOP_SUCCESS);
    assert_memory_equal(&card, &copy, sizeof card);
    oh_card_encode(&copy, again);
    assert_memory_equal(bytes, again, sizeof bytes);
}

/* The bytes are the same on every machine and in every version of this protocol. */
static void test_form(void **state) {
    (void)state;
    oh_card_t card = make_card(3, 4);
    unsigned char bytes[OH_CARD_BYTES];
    oh_card_encode(&card, bytes);
    assert_memory_equal(bytes,
                        "ONEHOP\r\n\1\0\0\0"
                        "1.2.3\0",
                        18);
    assert_memory_equal(bytes + 28, "a job\0", 6);
    assert_memory_equal(bytes + 156,
                        "\3\0\0\0\4\0\0\0"
                        "01234567-",
                        17);
    assert_memory_equal(bytes + 204, "\x10\x32\x54\x76\x98\xba\xdc\xfe", 8);
}

typedef struct damage {
    size_t at, length;
    unsigned char byte;
    const char *why;
} damage_t;

static void test_no_card(void **state) {
    (void)state;
    static const damage_t damages[] = {
        {0, 1, 'o', "it does not begin as one"},      {7, 1, 0, "it does not begin as one"},
        {12, 16, 'v', "a text in it has no end"},  /* version */
        {28, 128, 'j', "a text in it has no end"}, /* job */
        {156, 1, 4, "rank is out of range"},       /* nranks is 4 */
        {159, 1, 0x80, "rank is out of range"},    /* negative */
        {160, 1, 0, "nranks is out of range"},        {160, 1, 65, "nranks is out of range"},
        {164, 40, 'm', "a text in it has no end"}, /* machine */
        {224, 4, 0, "pid is out of range"},           {227, 1, 0xff, "pid is out of range"},
        {356, 1, 2, "device is out of range"},        {368, 4, 0, "timeout_ms is out of range"},
        {375, 1, 0x80, "max_blocks is out of range"}, {376, 32, 'a', "a text in it has no end"}, /* algorithm */
        {408, 48, 'c', "a text in it has no end"},                                               /* contact */
        {472, 1, 3, "memory is out of range"},        {475, 1, 0x80, "memory is out of range"},
    };
    oh_card_t card = make_card(1, 4), out;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        unsigned char bytes[OH_CARD_BYTES];
        oh_card_encode(&card, bytes);
        memset(bytes + damages[i].at, damages[i].byte, damages[i].length);
        assert_int_equal(oh_card_decode(bytes, &out), ONEHOP_INVALID_ARGUMENT);
        assert_non_null(strstr(onehop_last_error(), damages[i].why));
    }
}

/* Of a card in another protocol just enough is read to say that it is one. */
static void test_other_protocol(void **state) {
    (void)state;
    oh_card_t cards[2] = {make_card(0, 2), make_card(1, 2)}, out;
    unsigned char bytes[OH_CARD_BYTES];
    cards[1].protocol = 7;
    snprintf(cards[1].version, sizeof cards[1].version, "9.9.9");
    oh_card_encode(&cards[1], bytes);
    memset(bytes + 164, 0xff, sizeof bytes - 164); /* what follows means something else there */
    assert_int_equal(oh_card_decode(bytes, &out), ONEHOP_SUCCESS);
    assert_int_equal(out.protocol, 7);
    assert_string_equal(out.version, "9.9.9");
    assert_string_equal(out.job, "a job");
    assert_int_equal(out.rank, 1);
    assert_int_equal(out.nranks, 2);
    assert_int_equal(out.pid, 0);
    cards[1] = out;
    assert_int_equal(oh_cards_compatible(&cards[0], &cards[1]), ONEHOP_MISMATCH);
    assert_string_equal(onehop_last_error(), "ranks disagree on the version of Onehop: rank 0 has 1.2.3 (protocol 1), "
                                             "rank 1 has 9.9.9 (protocol 7)");
    assert_int_equal(oh_cards_check(cards, 2), ONEHOP_MISMATCH);
}

static void test_agree(void **state) {
    (void)state;
    oh_card_t cards[ONEHOP_MAX_RANKS];
    for (int n = 1; n <= ONEHOP_MAX_RANKS; n++) {
        for (int r = 0; r < n; r++) {
            cards[r] = make_card(r, n);
            cards[r].cpus[0] = (unsigned char)r; /* may differ */
            cards[r].nonce[0] = (unsigned char)r;
            cards[r].pid_namespace = (uint64_t)r;
        }
        assert_int_equal(oh_cards_check(cards, n), ONEHOP_SUCCESS);
    }
}

static void expect(oh_card_t *cards, onehop_result_t code, const char *sentence) {
    assert_int_equal(oh_cards_check(cards, 4), code);
    assert_string_equal(onehop_last_error(), sentence);
}

/* Rank 2 of 4 differs in one field. */
static void test_disagree(void **state) {
    (void)state;
    oh_card_t good[4], cards[4];
    for (int r = 0; r < 4; r++) good[r] = make_card(r, 4);
#define DIFFER(change, code, sentence)                                                                                 \
    do {                                                                                                               \
        memcpy(cards, good, sizeof cards);                                                                             \
        oh_card_t *odd = &cards[2];                                                                                    \
        change;                                                                                                        \
        expect(cards, code, sentence);                                                                                 \
    } while (0)
    DIFFER(strcpy(odd->version, "1.2.4"), ONEHOP_MISMATCH,
           "ranks disagree on the version of Onehop: rank 0 has 1.2.3 (protocol 1), rank 2 has 1.2.4 (protocol 1)");
    DIFFER(odd->nranks = 3, ONEHOP_MISMATCH, "ranks disagree on nranks: rank 0 has 4, rank 2 has 3");
    DIFFER(odd->rank = 1, ONEHOP_MISMATCH, "two ranks call themselves rank 1: pid 1001 and pid 1002");
    DIFFER((odd->rank = 3, cards[3].rank = 2), ONEHOP_MISMATCH,
           "the all-gather gave what rank 3 (pid 1002) sent as that of rank 2");
    DIFFER(odd->machine[0] = 'f', ONEHOP_UNSUPPORTED,
           "ranks must run on one machine: rank 0 has boot id 01234567-89ab-cdef-0123-456789abcdef, rank 2 has boot id "
           "f1234567-89ab-cdef-0123-456789abcdef");
    DIFFER(odd->net_namespace = 5, ONEHOP_UNSUPPORTED,
           "ranks must run in one network namespace (container): rank 0 has net:[18364758544493064720], rank 2 has "
           "net:[5]");
    DIFFER(odd->uid = 0, ONEHOP_UNSUPPORTED,
           "ranks must run under one user: rank 0 has uid 4294967295, rank 2 has uid 0");
    DIFFER(strcpy(odd->job, ""), ONEHOP_MISMATCH, "ranks disagree on job: rank 0 has \"a job\", rank 2 has \"\"");
    DIFFER(odd->device = ONEHOP_DEVICE_CUDA, ONEHOP_MISMATCH,
           "ranks disagree on device: rank 0 has host, rank 2 has cuda");
    DIFFER(odd->workspace_bytes = 65536, ONEHOP_MISMATCH,
           "ranks disagree on workspace_bytes: rank 0 has 33554432, rank 2 has 65536");
    DIFFER(odd->timeout_ms = 1, ONEHOP_MISMATCH, "ranks disagree on timeout_ms: rank 0 has 30000, rank 2 has 1");
    DIFFER(odd->max_blocks = 0, ONEHOP_MISMATCH, "ranks disagree on max_blocks: rank 0 has 16, rank 2 has 0");
    DIFFER(strcpy(odd->algorithm, "one_shot"), ONEHOP_MISMATCH,
           "ranks disagree on algorithm: rank 0 has \"auto\", rank 2 has \"one_shot\"");
    DIFFER(odd->memory = OH_SHARE_AUTO, ONEHOP_MISMATCH,
           "ranks disagree on memory: rank 0 has \"ipc\", rank 2 has \"auto\"");
    /* The first difference counts: by field, then by rank. */
    DIFFER((odd->max_blocks = 0, odd->timeout_ms = 1, cards[1].max_blocks = 1, cards[3].timeout_ms = 2),
           ONEHOP_MISMATCH, "ranks disagree on timeout_ms: rank 0 has 30000, rank 2 has 1");
#undef DIFFER
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_form),  cmocka_unit_test(test_no_card),
        cmocka_unit_test(test_other_protocol), cmocka_unit_test(test_agree), cmocka_unit_test(test_disagree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
