/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/card.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "bootstrap/wire.h"

const unsigned char oh_card_magic[OH_CARD_MAGIC_BYTES] = {'O', 'N', 'E', 'H', 'O', 'P', '\r', '\n'};

/* Where each field lies. What follows the last one is zero, and ignored. */
enum {
    AT_PROTOCOL = OH_CARD_MAGIC_BYTES,
    AT_VERSION = AT_PROTOCOL + 4,
    AT_JOB = AT_VERSION + 16,
    AT_RANK = AT_JOB + 128,
    AT_NRANKS = AT_RANK + 4,

    AT_MACHINE = AT_NRANKS + 4,
    AT_NET_NAMESPACE = AT_MACHINE + 40,
    AT_PID_NAMESPACE = AT_NET_NAMESPACE + 8,
    AT_UID = AT_PID_NAMESPACE + 8,
    AT_PID = AT_UID + 4,
    AT_CPUS = AT_PID + 4,
    AT_DEVICE = AT_CPUS + 128,
    AT_WORKSPACE = AT_DEVICE + 4,
    AT_TIMEOUT = AT_WORKSPACE + 8,
    AT_MAX_BLOCKS = AT_TIMEOUT + 4,
    AT_ALGORITHM = AT_MAX_BLOCKS + 4,
    AT_CONTACT = AT_ALGORITHM + OH_NAME_MAX,
    AT_NONCE = AT_CONTACT + 48,
    AT_MEMORY = AT_NONCE + OH_CARD_NONCE_BYTES,
    AT_END = AT_MEMORY + 4
};
_Static_assert((int)AT_END <= (int)OH_CARD_BYTES, "a card must fit");

/* A text is padded with zeros, so that equal cards are equal bytes. */
static void put_text(unsigned char *bytes, const char *text, size_t size) {
    size_t length = strnlen(text, size - 1);
    memcpy(bytes, text, length);
    memset(bytes + length, 0, size - length);
}

static bool get_text(const unsigned char *bytes, char *text, size_t size) {
    memcpy(text, bytes, size);
    return memchr(text, '\0', size) != NULL;
}

void oh_card_encode(const oh_card_t *card, unsigned char bytes[OH_CARD_BYTES]) {
    memset(bytes, 0, OH_CARD_BYTES);
    memcpy(bytes, oh_card_magic, sizeof oh_card_magic);
    oh_put32(bytes + AT_PROTOCOL, card->protocol);
    put_text(bytes + AT_VERSION, card->version, sizeof card->version);
    put_text(bytes + AT_JOB, card->job, sizeof card->job);
    oh_put32(bytes + AT_RANK, (uint32_t)card->rank);
    oh_put32(bytes + AT_NRANKS, (uint32_t)card->nranks);

    put_text(bytes + AT_MACHINE, card->machine, sizeof card->machine);
    oh_put64(bytes + AT_NET_NAMESPACE, card->net_namespace);
    oh_put64(bytes + AT_PID_NAMESPACE, card->pid_namespace);
    oh_put32(bytes + AT_UID, card->uid);
    oh_put32(bytes + AT_PID, (uint32_t)card->pid);
    memcpy(bytes + AT_CPUS, card->cpus, sizeof card->cpus);
    oh_put32(bytes + AT_DEVICE, (uint32_t)card->device);
    oh_put64(bytes + AT_WORKSPACE, card->workspace_bytes);
    oh_put32(bytes + AT_TIMEOUT, (uint32_t)card->timeout_ms);
    oh_put32(bytes + AT_MAX_BLOCKS, (uint32_t)card->max_blocks);
    put_text(bytes + AT_ALGORITHM, card->algorithm, sizeof card->algorithm);
    put_text(bytes + AT_CONTACT, card->contact, sizeof card->contact);
    memcpy(bytes + AT_NONCE, card->nonce, sizeof card->nonce);
    oh_put32(bytes + AT_MEMORY, (uint32_t)card->memory);
}

static onehop_result_t not_a_card(const char *why) {
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "not a card of a rank: %s", why);
}

onehop_result_t oh_card_decode(const unsigned char bytes[OH_CARD_BYTES], oh_card_t *card) {
    memset(card, 0, sizeof *card);
    if (memcmp(bytes, oh_card_magic, sizeof oh_card_magic) != 0) return not_a_card("it does not begin as one");
    card->protocol = oh_get32(bytes + AT_PROTOCOL);
    card->rank = (int)oh_get32(bytes + AT_RANK);
    card->nranks = (int)oh_get32(bytes + AT_NRANKS);
    bool texts = get_text(bytes + AT_VERSION, card->version, sizeof card->version) &&
                 get_text(bytes + AT_JOB, card->job, sizeof card->job);
    if (!texts) return not_a_card("a text in it has no end");
    if (card->nranks < 1 || card->nranks > ONEHOP_MAX_RANKS) return not_a_card("nranks is out of range");
    if (card->rank < 0 || card->rank >= card->nranks) return not_a_card("rank is out of range");
    if (card->protocol != OH_CARD_PROTOCOL) return ONEHOP_SUCCESS;

    card->net_namespace = oh_get64(bytes + AT_NET_NAMESPACE);
    card->pid_namespace = oh_get64(bytes + AT_PID_NAMESPACE);
    card->uid = oh_get32(bytes + AT_UID);
    card->pid = (int)oh_get32(bytes + AT_PID);
    memcpy(card->cpus, bytes + AT_CPUS, sizeof card->cpus);
    card->device = (onehop_device_t)(int)oh_get32(bytes + AT_DEVICE);
    card->workspace_bytes = oh_get64(bytes + AT_WORKSPACE);
    card->timeout_ms = (int)oh_get32(bytes + AT_TIMEOUT);
    card->max_blocks = (int)oh_get32(bytes + AT_MAX_BLOCKS);
    memcpy(card->nonce, bytes + AT_NONCE, sizeof card->nonce);
    card->memory = (oh_share_t)(int)oh_get32(bytes + AT_MEMORY);
    texts = get_text(bytes + AT_MACHINE, card->machine, sizeof card->machine) &&
            get_text(bytes + AT_ALGORITHM, card->algorithm, sizeof card->algorithm) &&
            get_text(bytes + AT_CONTACT, card->contact, sizeof card->contact);
    if (!texts) return not_a_card("a text in it has no end");
    if (card->pid < 1) return not_a_card("pid is out of range");
    if (onehop_device_string(card->device) == NULL) return not_a_card("device is out of range");
    if (card->timeout_ms < 1) return not_a_card("timeout_ms is out of range");
    if (card->max_blocks < 0) return not_a_card("max_blocks is out of range");
    if (oh_share_string(card->memory) == NULL) return not_a_card("memory is out of range");
    return ONEHOP_SUCCESS;
}

/* What is compared is what is shown: two cards agree in a field if it reads the same. */
enum { VALUE_TEXT = 160 };

static void show_version(const oh_card_t *card, char *text) {
    snprintf(text, VALUE_TEXT, "%s (protocol %" PRIu32 ")", card->version, card->protocol);
}
static void show_nranks(const oh_card_t *card, char *text) { snprintf(text, VALUE_TEXT, "%d", card->nranks); }
static void show_machine(const oh_card_t *card, char *text) { snprintf(text, VALUE_TEXT, "boot id %s", card->machine); }
static void show_net_namespace(const oh_card_t *card, char *text) {
    snprintf(text, VALUE_TEXT, "net:[%" PRIu64 "]", card->net_namespace);
}
static void show_uid(const oh_card_t *card, char *text) { snprintf(text, VALUE_TEXT, "uid %" PRIu32, card->uid); }
static void show_job(const oh_card_t *card, char *text) { snprintf(text, VALUE_TEXT, "\"%s\"", card->job); }
static void show_device(const oh_card_t *card, char *text) {
    snprintf(text, VALUE_TEXT, "%s", onehop_device_string(card->device));
}
static void show_workspace(const oh_card_t *card, char *text) {
    snprintf(text, VALUE_TEXT, "%" PRIu64, card->workspace_bytes);
}
static void show_timeout(const oh_card_t *card, char *text) { snprintf(text, VALUE_TEXT, "%d", card->timeout_ms); }
static void show_max_blocks(const oh_card_t *card, char *text) { snprintf(text, VALUE_TEXT, "%d", card->max_blocks); }
static void show_algorithm(const oh_card_t *card, char *text) { snprintf(text, VALUE_TEXT, "\"%s\"", card->algorithm); }
static void show_memory(const oh_card_t *card, char *text) {
    snprintf(text, VALUE_TEXT, "\"%s\"", oh_share_string(card->memory));
}

typedef struct field {
    void (*show)(const oh_card_t *card, char *text);
    onehop_result_t code;
    const char *sentence;
} field_t;

static const field_t fields[] = {
    {show_version, ONEHOP_MISMATCH, "ranks disagree on the version of Onehop"},
    {show_nranks, ONEHOP_MISMATCH, "ranks disagree on nranks"},
    {show_machine, ONEHOP_UNSUPPORTED, "ranks must run on one machine"},
    {show_net_namespace, ONEHOP_UNSUPPORTED, "ranks must run in one network namespace (container)"},
    {show_uid, ONEHOP_UNSUPPORTED, "ranks must run under one user"},
    {show_job, ONEHOP_MISMATCH, "ranks disagree on job"},
    {show_device, ONEHOP_MISMATCH, "ranks disagree on device"},
    {show_workspace, ONEHOP_MISMATCH, "ranks disagree on workspace_bytes"},
    {show_timeout, ONEHOP_MISMATCH, "ranks disagree on timeout_ms"},
    {show_max_blocks, ONEHOP_MISMATCH, "ranks disagree on max_blocks"},
    {show_algorithm, ONEHOP_MISMATCH, "ranks disagree on algorithm"},
    {show_memory, ONEHOP_MISMATCH, "ranks disagree on memory"},
};
enum { FIELDS = sizeof fields / sizeof fields[0], COMPATIBLE_FIELDS = 2 };

static onehop_result_t compare(const field_t *field, const oh_card_t *a, const oh_card_t *b) {
    char left[VALUE_TEXT], right[VALUE_TEXT];
    field->show(a, left);
    field->show(b, right);
    if (strcmp(left, right) == 0) return ONEHOP_SUCCESS;
    return oh_fail(field->code, "%s: rank %d has %s, rank %d has %s", field->sentence, a->rank, left, b->rank, right);
}

onehop_result_t oh_cards_compatible(const oh_card_t *a, const oh_card_t *b) {
    for (int f = 0; f < COMPATIBLE_FIELDS; f++) OH_TRY(compare(&fields[f], a, b));
    return ONEHOP_SUCCESS;
}

static onehop_result_t check_places(const oh_card_t *cards, int count) {
    int place[ONEHOP_MAX_RANKS];
    for (int r = 0; r < ONEHOP_MAX_RANKS; r++) place[r] = -1;
    for (int i = 0; i < count; i++) {
        int *first = &place[cards[i].rank];
        if (*first >= 0) {
            return oh_fail(ONEHOP_MISMATCH, "two ranks call themselves rank %d: pid %d and pid %d", cards[i].rank,
                           cards[*first].pid, cards[i].pid);
        }
        *first = i;
    }
    for (int i = 0; i < count; i++) {
        if (cards[i].rank == i) continue;
        return oh_fail(ONEHOP_MISMATCH, "the all-gather gave what rank %d (pid %d) sent as that of rank %d",
                       cards[i].rank, cards[i].pid, i);
    }
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_cards_check(const oh_card_t *cards, int count) {
    for (int f = 0; f < COMPATIBLE_FIELDS; f++) {
        for (int i = 1; i < count; i++) OH_TRY(compare(&fields[f], &cards[0], &cards[i]));
    }
    OH_TRY(check_places(cards, count));
    for (int f = COMPATIBLE_FIELDS; f < FIELDS; f++) {
        for (int i = 1; i < count; i++) OH_TRY(compare(&fields[f], &cards[0], &cards[i]));
    }
    return ONEHOP_SUCCESS;
}
