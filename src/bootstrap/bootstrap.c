/* SPDX-License-Identifier: Apache-2.0 */
#include "bootstrap/bootstrap.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "bootstrap/local.h"
#include "bootstrap/mesh.h"
#include "bootstrap/rendezvous.h"
#include "bootstrap/sock.h"

struct oh_bootstrap {
    oh_transport_t *transport;
    int rank, nranks;
    bool same_process;
    oh_card_t cards[ONEHOP_MAX_RANKS];
};

/* ---- this rank's card ---- */

static void read_machine(char *text, size_t size) {
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file != NULL) {
        if (fgets(text, (int)size, file) != NULL) text[strcspn(text, "\n")] = '\0';
        fclose(file);
    }
}

static uint64_t read_namespace(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? status.st_ino : 0;
}

static void read_cpus(unsigned char *bits, size_t bytes) {
    /* The kernel wants room for all processors it could ever have; those beyond the card's are left out. */
    unsigned char mask[8192 / 8] __attribute__((aligned(sizeof(long)))) = {0};
    if (syscall(SYS_sched_getaffinity, 0, sizeof mask, mask) > 0) memcpy(bits, mask, bytes);
}

static void write_card(const oh_config_t *config, oh_card_t *card) {
    *card = (oh_card_t){
        .protocol = OH_CARD_PROTOCOL,
        .rank = config->rank,
        .nranks = config->nranks,
        .net_namespace = read_namespace("/proc/self/ns/net"),
        .pid_namespace = read_namespace("/proc/self/ns/pid"),
        .uid = geteuid(),
        .pid = getpid(),
        .device = config->device,
        .workspace_bytes = config->workspace_bytes,
        .timeout_ms = config->timeout_ms,
        .max_blocks = config->max_blocks,
        .memory = config->memory,
    };
    snprintf(card->version, sizeof card->version, "%s", onehop_version());
    snprintf(card->job, sizeof card->job, "%s", config->job);
    snprintf(card->algorithm, sizeof card->algorithm, "%s", config->algorithm);
    read_machine(card->machine, sizeof card->machine);
    read_cpus(card->cpus, sizeof card->cpus);
}

/* ---- meeting ---- */

static onehop_result_t read_cards(const unsigned char *bytes, int nranks, oh_card_t *cards) {
    for (int r = 0; r < nranks; r++) {
        if (oh_card_decode(bytes + (size_t)r * OH_CARD_BYTES, &cards[r]) == ONEHOP_SUCCESS) continue;
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "the all-gather gave this for rank %d: %s", r, onehop_last_error());
    }
    return ONEHOP_SUCCESS;
}

static onehop_result_t gather_by_caller(const oh_config_t *config, const oh_card_t *mine, oh_card_t *cards) {
    unsigned char encoded[OH_CARD_BYTES];
    unsigned char *all = calloc((size_t)config->nranks, OH_CARD_BYTES);
    if (all == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    oh_card_encode(mine, encoded);
    int status = config->allgather(config->allgather_ctx, encoded, all, sizeof encoded);
    onehop_result_t result = status == 0
                                 ? read_cards(all, config->nranks, cards)
                                 : oh_fail(ONEHOP_SYSTEM_ERROR, "config.allgather returned %d: expected 0", status);
    free(all);
    return result;
}

static onehop_result_t gather_cards(const oh_config_t *config, const oh_card_t *mine, oh_card_t *cards,
                                    const oh_time_limit_t *limit) {
    if (config->allgather != NULL) {
        OH_TRY(gather_by_caller(config, mine, cards));
    } else {
        OH_TRY(oh_rendezvous(&config->rendezvous, mine, cards, limit));
    }
    return oh_cards_check(cards, config->nranks);
}

static onehop_result_t open_processes(const oh_config_t *config, oh_bootstrap_t *b) {
    const oh_time_limit_t limit = {.deadline = oh_deadline_in(config->bootstrap_timeout_ms),
                                   .timeout_ms = config->bootstrap_timeout_ms};
    oh_card_t mine;
    write_card(config, &mine);
    oh_mesh_t *mesh;
    OH_TRY(oh_mesh_open(&mine, &mesh));
    b->transport = oh_mesh_transport(mesh);
    OH_TRY(gather_cards(config, &mine, b->cards, &limit));
    return oh_mesh_connect(mesh, b->cards, config->rank, config->nranks, &limit);
}

static onehop_result_t open_threads(const oh_config_t *config, oh_local_group_t *group, oh_bootstrap_t *b) {
    const oh_patience_t patience = {.timeout_ms = config->bootstrap_timeout_ms};
    unsigned char encoded[OH_CARD_BYTES];
    oh_card_t mine;
    write_card(config, &mine);
    oh_card_encode(&mine, encoded);
    OH_TRY(oh_local_open(group, config->rank, &b->transport));
    unsigned char *all = malloc((size_t)config->nranks * OH_CARD_BYTES);
    if (all == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    onehop_result_t result = b->transport->ops->allgather(b->transport, "meet", encoded, all, OH_CARD_BYTES, &patience);
    if (result == ONEHOP_SUCCESS) result = read_cards(all, config->nranks, b->cards);
    free(all);
    return result == ONEHOP_SUCCESS ? oh_cards_check(b->cards, config->nranks) : result;
}

static onehop_result_t open_any(const oh_config_t *config, oh_local_group_t *group, oh_bootstrap_t **out) {
    oh_bootstrap_t *b = calloc(1, sizeof *b);
    if (b == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
    b->rank = config->rank;
    b->nranks = config->nranks;
    b->same_process = group != NULL;
    onehop_result_t result = group != NULL ? open_threads(config, group, b) : open_processes(config, b);
    if (result != ONEHOP_SUCCESS) {
        oh_bootstrap_close(b);
        return result;
    }
    *out = b;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_bootstrap_open(const oh_config_t *config, oh_bootstrap_t **out) {
    if (config->nranks > 1) return open_any(config, NULL, out);
    /* A rank alone is a group of one thread: no sockets. */
    oh_local_group_t *group;
    OH_TRY(oh_local_group_create(1, &group));
    onehop_result_t result = open_any(config, group, out);
    oh_local_group_release(group);
    return result;
}

onehop_result_t oh_bootstrap_open_local(const oh_config_t *config, oh_local_group_t *group, oh_bootstrap_t **out) {
    return open_any(config, group, out);
}

void oh_bootstrap_close(oh_bootstrap_t *b) {
    if (b->transport != NULL) b->transport->ops->close(b->transport);
    free(b);
}

/* ---- what is known, and what can be said ---- */

int oh_bootstrap_rank(const oh_bootstrap_t *b) { return b->rank; }
int oh_bootstrap_nranks(const oh_bootstrap_t *b) { return b->nranks; }
bool oh_bootstrap_same_process(const oh_bootstrap_t *b) { return b->same_process; }
const oh_card_t *oh_bootstrap_card(const oh_bootstrap_t *b, int rank) { return &b->cards[rank]; }
pid_t oh_bootstrap_pid(const oh_bootstrap_t *b, int rank) { return b->transport->ops->pid(b->transport, rank); }

onehop_result_t oh_bootstrap_allgather(oh_bootstrap_t *b, const char *what, const void *mine, void *all,
                                       size_t bytes_each, const oh_patience_t *patience) {
    if (bytes_each > OH_EXCHANGE_MAX) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "exchange \"%s\" has %zu bytes each: expected at most %d", what,
                       bytes_each, OH_EXCHANGE_MAX);
    }
    return b->transport->ops->allgather(b->transport, what, mine, all, bytes_each, patience);
}

onehop_result_t oh_bootstrap_exchange_fd(oh_bootstrap_t *b, const char *what, int fd, int *fds,
                                         const oh_patience_t *patience) {
    return b->transport->ops->exchange_fd(b->transport, what, fd, fds, patience);
}

int oh_bootstrap_gone(oh_bootstrap_t *b, bool *gone) { return b->transport->ops->gone(b->transport, gone); }
