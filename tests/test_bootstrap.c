/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that have met: what they exchange, and how they learn that one is gone, late or of another mind. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bootstrap/mesh_message.h"
#include "bootstrap/sock.h"
#include "meeting.h"

#include <cmocka.h>

enum { NOBODY = 65534, MANY = 4096 };

static oh_patience_t patience_for(int ms) { return (oh_patience_t){.timeout_ms = ms}; }

static oh_patience_t patience_long(void) { return patience_for((int)patience_ms(20000)); }

static oh_bootstrap_t *open_well(meeting_t *m, int rank, int nranks) {
    oh_config_t config = meeting_config(m, rank, nranks);
    oh_bootstrap_t *b = meeting_open(m, &config, rank);
    CHECK(b != NULL, "%s", onehop_last_error());
    return b;
}

/* ---- exchanges that go well ---- */

static void gather(oh_bootstrap_t *b, const char *what, size_t bytes, unsigned salt) {
    unsigned char mine[MANY], *all = malloc(ONEHOP_MAX_RANKS * MANY + 1);
    int rank = oh_bootstrap_rank(b), nranks = oh_bootstrap_nranks(b);
    oh_patience_t patience = patience_long();
    for (size_t i = 0; i < bytes; i++) mine[i] = (unsigned char)(i * 31 + (unsigned)rank + salt);
    all[(size_t)nranks * bytes] = 99;
    doing("gather %zu bytes in \"%s\"", bytes, what);
    CHECK_SUCCESS(oh_bootstrap_allgather(b, what, mine, all, bytes, &patience));
    CHECK(all[(size_t)nranks * bytes] == 99, "wrote beyond the end");
    for (int r = 0; r < nranks; r++) {
        for (size_t i = 0; i < bytes; i++) {
            unsigned char expected = (unsigned char)(i * 31 + (unsigned)r + salt);
            CHECK(all[(size_t)r * bytes + i] == expected, "byte %zu of rank %d is wrong", i, r);
        }
    }
    free(all);
}

/* A memfd that says whose it is. */
static int labelled_memory(int rank) {
    int fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, &rank, sizeof rank) == (ssize_t)sizeof rank, "memfd: %s", strerror(errno));
    return fd;
}

static void check_label(int fd, int rank) {
    int label = -1;
    CHECK(pread(fd, &label, sizeof label, 0) == (ssize_t)sizeof label, "pread: %s", strerror(errno));
    CHECK(label == rank, "the descriptor of rank %d is labelled %d", rank, label);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "the descriptor would survive exec");
}

/* Ranks of which bit (rank % 8) of `givers` is set give a descriptor. */
static void exchange(oh_bootstrap_t *b, const char *what, unsigned givers) {
    int rank = oh_bootstrap_rank(b), nranks = oh_bootstrap_nranks(b), fds[ONEHOP_MAX_RANKS];
    int fd = givers >> rank % 8 & 1 ? labelled_memory(rank) : -1;
    oh_patience_t patience = patience_long();
    doing("exchange descriptors in \"%s\"", what);
    CHECK_SUCCESS(oh_bootstrap_exchange_fd(b, what, fd, fds, &patience));
    for (int r = 0; r < nranks; r++) {
        bool expected = r != rank && (givers >> r % 8 & 1) != 0;
        CHECK((fds[r] >= 0) == expected, "descriptor %d from rank %d", fds[r], r);
        if (!expected) continue;
        check_label(fds[r], r);
        close(fds[r]);
    }
    if (fd >= 0) close(fd);
}

static void talk(oh_bootstrap_t *b) {
    static const size_t sizes[] = {0, 1, 7, 64, 1000, MANY};
    bool gone[ONEHOP_MAX_RANKS];
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        gather(b, "sizes", sizes[i], i);
        exchange(b, "descriptors", i * 0x5b);
    }
    CHECK(oh_bootstrap_gone(b, gone) == 0, "someone is gone");
    gather(b, "the end", 1, 0); /* nobody leaves before all have looked */
}

static void meet_and_talk(int rank, int nranks, void *ctx) {
    resources_t before = resources_now();
    for (int i = 0; i < 3; i++) {
        oh_bootstrap_t *b = open_well(ctx, rank, nranks);
        CHECK(!oh_bootstrap_same_process(b), "we are processes");
        talk(b);
        oh_bootstrap_close(b);
    }
    resources_check(before, "talk");
}

static void test_talk(void **state) {
    (void)state;
    for (int nranks = 1; nranks <= 8; nranks++) {
        meeting_t *m = meeting_new((place_t)(nranks % PLACES));
        if (nranks > 1) team_run(nranks, meet_and_talk, m);
        meeting_free(m);
    }
}

static void meet_once(int rank, int nranks, void *ctx) {
    resources_t before = resources_now();
    oh_bootstrap_t *b = open_well(ctx, rank, nranks);
    talk(b);
    oh_bootstrap_close(b);
    resources_check(before, "talk");
}

static void test_talk_64(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(64, meet_once, m);
    meeting_free(m);
}

/* A rank alone opens nothing. */
static void test_one(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    resources_t before = resources_now();
    oh_bootstrap_t *b = open_well(m, 0, 1);
    resources_check(before, "a rank alone");
    CHECK(oh_bootstrap_same_process(b) && oh_bootstrap_pid(b, 0) == getpid(), "it is not this process");
    talk(b);
    oh_bootstrap_close(b);
    resources_check(before, "after a rank alone");
    meeting_free(m);
}

/* What one rank knows of another's place. */
static void compare_cards(int rank, int nranks, void *ctx) {
    oh_bootstrap_t *b = open_well(ctx, rank, nranks);
    oh_card_t cards[2];
    for (int r = 0; r < 2; r++) cards[r] = *oh_bootstrap_card(b, r);
    CHECK(strlen(cards[0].machine) == 36 && strcmp(cards[0].machine, cards[1].machine) == 0, "machine %s and %s",
          cards[0].machine, cards[1].machine);
    CHECK(cards[0].net_namespace != 0 && cards[0].pid_namespace == cards[1].pid_namespace, "namespaces differ");
    CHECK(strcmp(cards[0].version, onehop_version()) == 0, "version %s", cards[0].version);
    int cpus = 0;
    for (size_t i = 0; i < sizeof cards[0].cpus; i++) cpus += __builtin_popcount(cards[0].cpus[i]);
    CHECK(cpus == (int)sysconf(_SC_NPROCESSORS_ONLN) || cpus > 0, "%d processors", cpus);
    CHECK(memcmp(cards[0].nonce, cards[1].nonce, sizeof cards[0].nonce) != 0, "the nonces are the same");
    oh_bootstrap_close(b);
}

static void test_cards(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(2, compare_cards, m);
    meeting_free(m);
}

static void set_torchrun(int rank, int nranks, const meeting_t *m) {
    char text[32];
    snprintf(text, sizeof text, "%d", rank);
    setenv("RANK", text, 1);
    setenv("LOCAL_RANK", text, 1);
    snprintf(text, sizeof text, "%d", nranks);
    setenv("WORLD_SIZE", text, 1);
    setenv("LOCAL_WORLD_SIZE", text, 1);
    setenv("MASTER_ADDR", m->address + strlen("unix:@"), 1);
    setenv("MASTER_PORT", "29500", 1);
    setenv("TORCHELASTIC_RUN_ID", "none", 1);
}

static void meet_by_torchrun(int rank, int nranks, void *ctx) {
    set_torchrun(rank, nranks, ctx);
    for (int i = 0; i < 3; i++) {
        oh_config_t config;
        CHECK_SUCCESS(oh_config_resolve(NULL, 0, &config));
        oh_bootstrap_t *b = meeting_open(ctx, &config, rank);
        CHECK(b != NULL, "%s", onehop_last_error());
        talk(b);
        oh_bootstrap_close(b);
    }
}

static void test_torchrun(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(4, meet_by_torchrun, m);
    meeting_free(m);
}

/* ---- the caller's own all-gather ---- */

/* An all-gather through memory that the processes share. */
typedef struct table {
    meeting_t *m;
    int rank, nranks;
    unsigned char *rows;
    _Atomic int *count;
    void (*meddle)(const struct table *t, unsigned char *all); /* or NULL */
    int status;
    _Atomic int *hold; /* not NULL: rank 2 comes back when this is set */
} table_t;

static int gather_by_table(void *ctx, const void *mine, void *all, size_t bytes_each) {
    const table_t *t = ctx;
    CHECK(bytes_each == OH_CARD_BYTES, "%zu bytes each", bytes_each);
    memcpy(t->rows + (size_t)t->rank * bytes_each, mine, bytes_each);
    atomic_fetch_add(t->count, 1);
    CHECK(reaches(t->count, t->nranks, patience_ms(10000)), "some do not come");
    memcpy(all, t->rows, (size_t)t->nranks * bytes_each);
    if (t->meddle != NULL) t->meddle(t, all);
    if (t->hold != NULL && t->rank == 2) CHECK(reaches(t->hold, 1, patience_ms(10000)), "held for ever");
    return t->status;
}

typedef struct table_test {
    meeting_t *m;
    unsigned char *rows;
    _Atomic int *count;
    void (*meddle)(const table_t *t, unsigned char *all);
    int status;
    _Atomic int *hold;
} table_test_t;

enum { ROWS = ONEHOP_MAX_RANKS * OH_CARD_BYTES };

static table_test_t table_new(void) {
    meeting_t *m = meeting_new(AT_NAME);
    return (table_test_t){.m = m, .rows = shared_zalloc(ROWS), .count = &m->signal[3]};
}

static void table_free(table_test_t *test) {
    shared_free(test->rows, ROWS);
    meeting_free(test->m);
}

static oh_bootstrap_t *open_by_table(const table_test_t *test, int rank, int nranks) {
    table_t table = {.m = test->m,
                     .rank = rank,
                     .nranks = nranks,
                     .rows = test->rows,
                     .count = test->count,
                     .meddle = test->meddle,
                     .status = test->status,
                     .hold = test->hold};
    oh_config_t config = meeting_config(test->m, rank, nranks);
    memset(&config.rendezvous, 0, sizeof config.rendezvous);
    config.allgather = gather_by_table;
    config.allgather_ctx = &table;
    return meeting_open(test->m, &config, rank);
}

static void meet_by_table(int rank, int nranks, void *ctx) {
    resources_t before = resources_now();
    oh_bootstrap_t *b = open_by_table(ctx, rank, nranks);
    CHECK(b != NULL, "%s", onehop_last_error());
    talk(b);
    oh_bootstrap_close(b);
    resources_check(before, "talk");
}

static void test_table(void **state) {
    (void)state;
    for (int nranks = 2; nranks <= 8; nranks++) {
        table_test_t test = table_new();
        team_run(nranks, meet_by_table, &test);
        table_free(&test);
    }
}

static void fail_by_table(int rank, int nranks, void *ctx) {
    CHECK(open_by_table(ctx, rank, nranks) == NULL, "met by a broken table");
}

static void spoil_row(const table_t *t, unsigned char *all) {
    (void)t;
    all[2 * OH_CARD_BYTES] = 'x';
}

static void swap_rows(const table_t *t, unsigned char *all) {
    unsigned char row[OH_CARD_BYTES];
    (void)t;
    memcpy(row, all, sizeof row);
    memcpy(all, all + OH_CARD_BYTES, sizeof row);
    memcpy(all + OH_CARD_BYTES, row, sizeof row);
}

static void test_broken_table(void **state) {
    (void)state;
    static const struct {
        int status;
        void (*meddle)(const table_t *t, unsigned char *all);
        onehop_result_t code;
        const char *words;
    } cases[] = {
        {7, NULL, ONEHOP_SYSTEM_ERROR, "config.allgather returned 7: expected 0"},
        {0, spoil_row, ONEHOP_INVALID_ARGUMENT,
         "the all-gather gave this for rank 2: not a card of a rank: it does not begin as one"},
        {0, swap_rows, ONEHOP_MISMATCH, "as that of rank 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        table_test_t test = table_new();
        test.status = cases[i].status;
        test.meddle = cases[i].meddle;
        team_run(3, fail_by_table, &test);
        for (int r = 0; r < 3; r++) meeting_expect_words(test.m, r, cases[i].code, cases[i].words);
        table_free(&test);
    }
}

/* ---- ranks that were asked for different things ---- */

static void ask_workspace(oh_config_t *config) { config->workspace_bytes = 65536; }
static void ask_timeout(oh_config_t *config) { config->timeout_ms = 5; }
static void ask_blocks(oh_config_t *config) { config->max_blocks = 5; }
static void ask_device(oh_config_t *config) { config->device = ONEHOP_DEVICE_CUDA; }
static void ask_algorithm(oh_config_t *config) { snprintf(config->algorithm, sizeof config->algorithm, "two_shot"); }

static const struct {
    void (*ask)(oh_config_t *config);
    const char *sentence;
} wishes[] = {
    {ask_workspace, "ranks disagree on workspace_bytes: rank 0 has 33554432, rank 2 has 65536"},
    {ask_timeout, "ranks disagree on timeout_ms: rank 0 has 30000, rank 2 has 5"},
    {ask_blocks, "ranks disagree on max_blocks: rank 0 has 0, rank 2 has 5"},
    {ask_device, "ranks disagree on device: rank 0 has host, rank 2 has cuda"},
    {ask_algorithm, "ranks disagree on algorithm: rank 0 has \"auto\", rank 2 has \"two_shot\""},
};

static void ask_differently(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_config_t config = meeting_config(m, rank, nranks);
    if (rank == 2) wishes[atomic_load(&m->signal[0])].ask(&config);
    CHECK(meeting_open(m, &config, rank) == NULL, "they disagree, and met");
    /* And again as one. */
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    talk(b);
    oh_bootstrap_close(b);
}

static void fail_differently(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_config_t config = meeting_config(m, rank, nranks);
    if (rank == 2) wishes[atomic_load(&m->signal[0])].ask(&config);
    CHECK(meeting_open(m, &config, rank) == NULL, "they disagree, and met");
}

static void test_disagree(void **state) {
    (void)state;
    for (int i = 0; i < (int)(sizeof wishes / sizeof *wishes); i++) {
        meeting_t *m = meeting_new((place_t)(i % PLACES));
        atomic_store(&m->signal[0], i);
        team_run(4, fail_differently, m);
        for (int r = 0; r < 4; r++) meeting_expect(m, r, ONEHOP_MISMATCH, "%s", wishes[i].sentence);
        team_run(4, ask_differently, m);
        meeting_free(m);
    }
}

/* ---- exchanges that go wrong ---- */

/* One exchange, whatever comes of it. */
static onehop_result_t try_gather(meeting_t *m, oh_bootstrap_t *b, const char *what, size_t bytes,
                                  const oh_patience_t *patience) {
    static unsigned char mine[MANY], all[ONEHOP_MAX_RANKS * MANY];
    int64_t begin = now_ns();
    onehop_result_t code = oh_bootstrap_allgather(b, what, mine, all, bytes, patience);
    meeting_record(m, oh_bootstrap_rank(b), begin, code);
    return code;
}

static void exchange_differently(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    resources_t before = resources_now();
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    oh_patience_t patience = patience_long();
    int kind = rank == 1 ? atomic_load(&m->signal[0]) : 0;
    if (kind == 2) {
        int fds[ONEHOP_MAX_RANKS], fd = labelled_memory(rank);
        int64_t begin = now_ns();
        meeting_record(m, rank, begin, oh_bootstrap_exchange_fd(b, "register", fd, fds, &patience));
        close(fd);
    } else {
        try_gather(m, b, kind == 1 ? "deregister" : "register", kind == 3 ? 33 : 32, &patience);
    }
    oh_bootstrap_close(b);
    resources_check(before, "a mismatch");
}

static void test_exchange_mismatch(void **state) {
    (void)state;
    static const char *const odd[] = {[1] = "\"deregister\" (32 bytes each)",
                                      [2] = "\"register\" (a descriptor each)",
                                      [3] = "\"register\" (33 bytes each)"};
    for (int kind = 1; kind <= 3; kind++) {
        meeting_t *m = meeting_new(AT_NAME);
        atomic_store(&m->signal[0], kind);
        team_run(3, exchange_differently, m);
        for (int r = 0; r < 3; r++) {
            meeting_expect(m, r, ONEHOP_MISMATCH,
                           "ranks disagree on what they exchange: rank 0 is in \"register\" (32 bytes each), rank 1 in "
                           "%s",
                           odd[kind]);
        }
        meeting_free(m);
    }
}

static void exchange_too_much(int rank, int nranks, void *ctx) {
    oh_bootstrap_t *b = open_well(ctx, rank, nranks);
    static unsigned char bytes[2 * (MANY + 1)];
    oh_patience_t patience = patience_long();
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "exchange \"big\" has 4097 bytes each: expected at most 4096",
                oh_bootstrap_allgather(b, "big", bytes, bytes, MANY + 1, &patience));
    talk(b);
    oh_bootstrap_close(b);
}

static void test_exchange_too_much(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(2, exchange_too_much, m);
    meeting_free(m);
}

/* Rank 2 comes when the others have given up, and learns what they said. */
static void come_late(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    oh_patience_t patience = rank == 0 ? patience_for(300) : patience_long();
    if (rank == 2) CHECK(reaches(&m->signal[0], 2, patience_ms(10000)), "they still wait");
    CHECK(try_gather(m, b, "register", 8, &patience) != ONEHOP_SUCCESS, "it went well");
    atomic_fetch_add(&m->signal[0], 1);
    CHECK(reaches(&m->signal[0], 3, patience_ms(10000)), "rank 2 does not come");
    oh_bootstrap_close(b);
}

static void test_late(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(3, come_late, m);
    char sentence[128];
    snprintf(sentence, sizeof sentence, "rank 2 (pid %d) of 3 did not come to \"register\" within 300 ms",
             m->outcomes[2].pid);
    for (int r = 0; r < 3; r++) meeting_expect(m, r, ONEHOP_TIMEOUT, "%s", sentence);
    int64_t ms = (m->outcomes[0].end - m->outcomes[0].begin) / 1000000;
    CHECK(ms >= 300 && ms < patience_ms(600), "waited %lld ms", (long long)ms);
    meeting_free(m);
}

static void check_gone(oh_bootstrap_t *b, int rank) {
    bool gone[ONEHOP_MAX_RANKS];
    int64_t deadline = now_ns() + patience_ms(1000) * 1000000;
    while (oh_bootstrap_gone(b, gone) < 1 || !gone[rank]) {
        CHECK(now_ns() < deadline, "rank %d is not gone", rank);
        nap_us(100);
    }
    CHECK(!gone[oh_bootstrap_rank(b)], "this rank is gone");
}

/* Rank 2 is killed while the others wait for it. */
static void wait_for_killed(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    resources_t before = resources_now();
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    m->outcomes[rank].pid = (int)getpid();
    atomic_fetch_add(&m->signal[0], 1);
    if (rank == 2) {
        for (;;) pause();
    }
    oh_patience_t patience = patience_long();
    CHECK(try_gather(m, b, "register", 8, &patience) != ONEHOP_SUCCESS, "it went well");
    check_gone(b, 2);
    oh_bootstrap_close(b);
    resources_check(before, "a loss");
}

static void test_killed(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_t *team = team_start(4, wait_for_killed, m);
    CHECK(reaches(&m->signal[0], 4, patience_ms(10000)), "they do not meet");
    int64_t killed = now_ns();
    team_signal(team, 2, SIGKILL);
    team_finish(team, 2);
    for (int r = 0; r < 4; r++) {
        if (r == 2) continue;
        meeting_expect(m, r, ONEHOP_PEER_LOST, "rank 2 (pid %d) has died or left; it was needed for \"register\"",
                       m->outcomes[2].pid);
        int64_t ms = (m->outcomes[r].end - killed) / 1000000;
        CHECK(ms < patience_ms(500), "rank %d learned of it after %lld ms", r, (long long)ms);
    }
    meeting_free(m);
}

/* Rank 2 is killed, but a child of it holds its sockets open. */
static void wait_for_parent(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    if (rank == 2) {
        m->outcomes[2].pid = (int)getpid();
        pid_t child = fork();
        CHECK(child >= 0, "fork: %s", strerror(errno));
        atomic_fetch_add(&m->signal[0], 1);
        if (child == 0) {
            reaches(&m->signal[1], 2, patience_ms(20000));
            _exit(0);
        }
        for (;;) pause();
    }
    CHECK(reaches(&m->signal[0], 2, patience_ms(10000)), "rank 2 has no child");
    oh_patience_t patience = patience_long();
    CHECK(try_gather(m, b, "register", 8, &patience) != ONEHOP_SUCCESS, "it went well");
    check_gone(b, 2);
    atomic_fetch_add(&m->signal[1], 1);
    oh_bootstrap_close(b);
}

static void test_killed_parent(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_t *team = team_start(3, wait_for_parent, m);
    CHECK(reaches(&m->signal[0], 2, patience_ms(10000)), "they do not meet");
    team_signal(team, 2, SIGKILL);
    team_finish(team, 2);
    for (int r = 0; r < 2; r++) {
        meeting_expect(m, r, ONEHOP_PEER_LOST, "rank 2 (pid %d) has died or left; it was needed for \"register\"",
                       m->outcomes[2].pid);
    }
    meeting_free(m);
}

/* Who says its last word and leaves at once is heard all the same. */
static void leave_at_once(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    rng_t rng = {tests_seed() + (uint64_t)rank};
    for (int i = 0; i < rounds(50, 10); i++) {
        oh_bootstrap_t *b = open_well(m, rank, nranks);
        nap_us((int64_t)rng_log_below(&rng, 2000));
        exchange(b, "last words", 0xff);
        oh_bootstrap_close(b);
    }
}

static void test_leave_at_once(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(4, leave_at_once, m);
    meeting_free(m);
}

/* Rank 2 leaves in good order when it is still needed. */
static void leave_early(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    oh_patience_t patience = patience_long();
    if (rank != 2) CHECK(try_gather(m, b, "register", 8, &patience) != ONEHOP_SUCCESS, "it went well");
    m->outcomes[rank].pid = (int)getpid();
    oh_bootstrap_close(b);
    atomic_fetch_add(&m->signal[0], 1);
    CHECK(reaches(&m->signal[0], nranks, patience_ms(10000)), "others wait");
}

static void test_leave_early(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(3, leave_early, m);
    for (int r = 0; r < 2; r++) {
        meeting_expect(m, r, ONEHOP_PEER_LOST, "rank 2 (pid %d) has died or left; it was needed for \"register\"",
                       m->outcomes[2].pid);
    }
    meeting_free(m);
}

/* ---- being called off ---- */

static onehop_result_t call_off(void *ctx) {
    _Atomic int *asked = ctx;
    return atomic_fetch_add(asked, 1) < 5 ? ONEHOP_SUCCESS : ONEHOP_ABORTED;
}

static void wait_for_interrupt(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    if (rank == 0) {
        oh_patience_t patience = patience_long();
        patience.interrupt = call_off;
        patience.ctx = &m->signal[0];
        CHECK(try_gather(m, b, "register", 8, &patience) == ONEHOP_ABORTED, "it was not called off");
        int64_t ms = (m->outcomes[0].end - m->outcomes[0].begin) / 1000000;
        CHECK(ms < patience_ms(500), "called off after %lld ms", (long long)ms);
        atomic_store(&m->signal[1], 1);
    }
    CHECK(reaches(&m->signal[1], 1, patience_ms(10000)), "rank 0 is not called off");
    oh_bootstrap_close(b);
}

static void test_interrupt(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(2, wait_for_interrupt, m);
    meeting_free(m);
}

/* What broke the communicator is asked for before a peer that left because of it is called lost. */
static onehop_result_t when_peer_has_left(void *ctx) {
    return atomic_load((_Atomic int *)ctx) == 0 ? ONEHOP_SUCCESS : ONEHOP_ABORTED;
}

static void leave_for_a_reason(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    if (rank == 1) {
        atomic_store(&m->signal[0], 1);
    } else {
        oh_patience_t patience = patience_long();
        patience.interrupt = when_peer_has_left;
        patience.ctx = &m->signal[0];
        CHECK(try_gather(m, b, "register", 8, &patience) == ONEHOP_ABORTED, "%s", onehop_last_error());
    }
    oh_bootstrap_close(b);
}

static void test_reason(void **state) {
    (void)state;
    for (int i = 0; i < rounds(50, 10); i++) {
        meeting_t *m = meeting_new(AT_NAME);
        team_run(2, leave_for_a_reason, m);
        meeting_free(m);
    }
}

/* ---- children ---- */

static void close_in_child(int rank, int nranks, void *ctx) {
    oh_bootstrap_t *b = open_well(ctx, rank, nranks);
    if (rank == 1) {
        pid_t child = fork();
        CHECK(child >= 0, "fork: %s", strerror(errno));
        if (child == 0) {
            oh_bootstrap_close(b);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the child ended with %d", status);
    }
    talk(b);
    bool gone[ONEHOP_MAX_RANKS];
    CHECK(oh_bootstrap_gone(b, gone) == 0, "someone is gone");
    gather(b, "the end", 1, 0);
    oh_bootstrap_close(b);
}

static void test_child(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(3, close_in_child, m);
    meeting_free(m);
}

/* ---- running out ---- */

static int lowest_free(void) {
    int fd = dup(0);
    CHECK(fd >= 0, "dup: %s", strerror(errno));
    close(fd);
    return fd;
}

/* Leaves room for `count` more descriptors. */
static struct rlimit limit_descriptors(int count) {
    struct rlimit before, limit;
    getrlimit(RLIMIT_NOFILE, &before);
    limit = before;
    limit.rlim_cur = (rlim_t)(lowest_free() + count);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit: %s", strerror(errno));
    return before;
}

/* Rank 1 has no room for what the others give: all learn of it, now or in what comes next. */
static void run_out_in_exchange(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    resources_t before = resources_now();
    oh_bootstrap_t *b = open_well(m, rank, nranks);
    oh_patience_t patience = patience_long();
    int fd = labelled_memory(rank), fds[ONEHOP_MAX_RANKS];
    struct rlimit usual = {0};
    if (rank == 1) usual = limit_descriptors(1);
    int64_t begin = now_ns();
    onehop_result_t code = oh_bootstrap_exchange_fd(b, "workspace", fd, fds, &patience);
    if (rank == 1) setrlimit(RLIMIT_NOFILE, &usual);
    meeting_record(m, rank, begin, code);
    close(fd);
    for (int r = 0; r < nranks; r++) {
        CHECK(code == ONEHOP_SUCCESS || fds[r] == -1, "descriptor %d is left", fds[r]);
        if (fds[r] >= 0) close(fds[r]);
    }
    if (code == ONEHOP_SUCCESS) try_gather(m, b, "what comes next", 8, &patience);
    oh_bootstrap_close(b);
    resources_check(before, "running out");
}

static void test_run_out_in_exchange(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(4, run_out_in_exchange, m);
    for (int r = 0; r < 4; r++) {
        meeting_expect_words(m, r, ONEHOP_OUT_OF_MEMORY, "rank 1 cannot receive the descriptor of rank ");
        meeting_expect_words(m, r, ONEHOP_OUT_OF_MEMORY, "in \"workspace\": Too many open files");
    }
    meeting_free(m);
}

/* One rank of two runs out at each step on the way. */
static void run_out_at_open(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    int room = atomic_load(&m->signal[0]), poor = atomic_load(&m->signal[1]);
    oh_config_t config = meeting_config(m, rank, nranks);
    config.bootstrap_timeout_ms = (int)patience_ms(400);
    resources_t before = resources_now();
    struct rlimit usual = {0};
    if (rank == poor) usual = limit_descriptors(room);
    oh_bootstrap_t *b = NULL;
    int64_t begin = now_ns();
    onehop_result_t code = oh_bootstrap_open(&config, &b);
    if (rank == poor) setrlimit(RLIMIT_NOFILE, &usual);
    meeting_record(m, rank, begin, code);
    if (b != NULL) oh_bootstrap_close(b);
    resources_check(before, "running out");
}

static void test_run_out_at_open(void **state) {
    (void)state;
    for (int poor = 0; poor < 2; poor++) {
        int room = 0;
        for (bool enough = false; !enough; room++) {
            CHECK(room < 20, "20 descriptors are not enough");
            meeting_t *m = meeting_new(AT_FILE);
            atomic_store(&m->signal[0], room);
            atomic_store(&m->signal[1], poor);
            team_run(2, run_out_at_open, m);
            enough = m->outcomes[poor].code == ONEHOP_SUCCESS;
            if (!enough) {
                meeting_expect_words(m, poor, ONEHOP_OUT_OF_MEMORY, ": Too many open files");
                CHECK(m->outcomes[1 - poor].code != ONEHOP_SUCCESS, "the other knows nothing of it");
            }
            meeting_free(m);
        }
        CHECK(room > 3, "%d descriptors were enough", room);
    }
}

/* Descriptors on their way count against the user's limit: with 64 ranks they are more than it allows at once. */
static void crowd(int rank, int nranks, void *ctx) {
    struct rlimit limit = {300, 300};
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit: %s", strerror(errno));
    CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0, "setuid: %s", strerror(errno));
    prctl(PR_SET_DUMPABLE, 1); /* for leak checkers */
    oh_bootstrap_t *b = open_well(ctx, rank, nranks);
    for (int i = 0; i < 2; i++) exchange(b, "crowd", 0xff);
    oh_bootstrap_close(b);
}

static void test_crowd(void **state) {
    (void)state;
    if (geteuid() != 0) skip(); /* limits do not bind root, and others may have processes that count too */
    meeting_t *m = meeting_new(AT_NAME);
    team_run(64, crowd, m);
    meeting_free(m);
}

/* ---- strangers ---- */

/* Calls each of the ranks whose cards are on the table, and says what should not be believed. */
static int call_all(const table_test_t *table, int nranks, uint64_t salt, int *sockets) {
    int count = 0;
    for (int r = 0; r < nranks; r++) {
        oh_card_t card;
        CHECK_SUCCESS(oh_card_decode(table->rows + (size_t)r * OH_CARD_BYTES, &card));
        struct sockaddr_un address;
        socklen_t length = oh_unix_address(card.contact, &address);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        CHECK(fd >= 0, "socket: %s", strerror(errno));
        /* Rank 2, which is held, does not yet empty its queue. */
        if (connect(fd, (struct sockaddr *)(void *)&address, length) != 0) {
            CHECK(errno == EAGAIN, "connect: %s", strerror(errno));
            close(fd);
            continue;
        }
        oh_exchange_t exchange = oh_exchange_make("hello", OH_CARD_NONCE_BYTES, false);
        oh_message_t hello = oh_message_make((oh_message_kind_t)(salt % 3), 2 - (int)(salt / 3 % 3), &exchange);
        uint64_t words[2] = {mix64(salt), mix64(salt + 1)};
        switch (salt / 9 % 3) {
        case 0: break; /* silence */
        case 1: CHECK(send(fd, words, sizeof words, MSG_NOSIGNAL) > 0 || errno == EPIPE, "%s", strerror(errno)); break;
        case 2: (void)oh_message_send(fd, &hello, words, -1); break; /* with another nonce */
        }
        sockets[count++] = fd;
    }
    return count;
}

typedef struct stranger_test {
    table_test_t table;
    bool other_user;
} stranger_test_t;

/* Ranks 0 and 1 are connecting, and wait for rank 2, while rank 3 of the team calls them. */
static void connect_among_strangers(int rank, int nranks, void *ctx) {
    stranger_test_t *test = ctx;
    meeting_t *m = test->table.m;
    enum { EACH = 200 };
    if (rank < nranks - 1) {
        oh_bootstrap_t *b = open_by_table(&test->table, rank, nranks - 1);
        CHECK(b != NULL, "%s", onehop_last_error());
        talk(b);
        oh_bootstrap_close(b);
        return;
    }
    if (test->other_user) CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0, "setuid: %s", strerror(errno));
    CHECK(reaches(test->table.count, nranks - 1, patience_ms(10000)), "they do not come");
    int sockets[EACH + 3], count = 0;
    for (uint64_t salt = tests_seed(); count < EACH; salt++) {
        count += call_all(&test->table, nranks - 1, salt, sockets + count);
    }
    atomic_store(&m->signal[0], 1);
}

static void test_strangers(void **state) {
    (void)state;
    for (int other_user = 0; other_user <= (geteuid() == 0); other_user++) {
        stranger_test_t test = {.table = table_new(), .other_user = other_user != 0};
        test.table.hold = &test.table.m->signal[0];
        team_run(4, connect_among_strangers, &test);
        table_free(&test.table);
    }
}

/* ---- death at any moment ---- */

/* Everything, over and over, until something is lost. */
static void live_until_loss(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    resources_t before = resources_now();
    oh_patience_t patience = patience_for(m->timeout_ms);
    int fds[ONEHOP_MAX_RANKS];
    m->outcomes[rank].pid = (int)getpid();
    atomic_fetch_add(&m->signal[0], 1);
    for (onehop_result_t code = ONEHOP_SUCCESS; code == ONEHOP_SUCCESS;) {
        oh_config_t config = meeting_config(m, rank, nranks);
        oh_bootstrap_t *b = meeting_open(m, &config, rank);
        if (b == NULL) break;
        code = try_gather(m, b, "gather", 100, &patience);
        if (code == ONEHOP_SUCCESS) {
            int fd = labelled_memory(rank);
            int64_t begin = now_ns();
            code = oh_bootstrap_exchange_fd(b, "descriptors", fd, fds, &patience);
            meeting_record(m, rank, begin, code);
            for (int r = 0; code == ONEHOP_SUCCESS && r < nranks; r++) {
                if (fds[r] >= 0) close(fds[r]);
            }
            close(fd);
        }
        oh_bootstrap_close(b);
    }
    resources_check(before, m->outcomes[rank].text);
    /* Who ends because of another's end should not be taken for the culprit. */
    atomic_fetch_add(&m->signal[1], 1);
    reaches(&m->signal[1], nranks - 1, 4 * m->timeout_ms);
}

static void test_death(void **state) {
    (void)state;
    rng_t rng = {tests_seed()};
    int lost = 0;
    for (int i = 0; i < rounds(40, 10); i++) {
        int nranks = 2 + (int)rng_below(&rng, 5), victim = (int)rng_below(&rng, (uint64_t)nranks);
        meeting_t *m = meeting_new((place_t)(i % PLACES));
        m->timeout_ms = (int)patience_ms(500);
        team_t *team = team_start(nranks, live_until_loss, m);
        CHECK(reaches(&m->signal[0], nranks, patience_ms(10000)), "they do not begin");
        nap_us((int64_t)rng_log_below(&rng, 20000));
        int pid = m->outcomes[victim].pid;
        int64_t killed = now_ns();
        team_signal(team, victim, SIGKILL);
        team_finish(team, victim);
        for (int r = 0; r < nranks; r++) {
            const outcome_t *outcome = &m->outcomes[r];
            if (r == victim) continue;
            CHECK(outcome->code == ONEHOP_PEER_LOST || outcome->code == ONEHOP_TIMEOUT, "rank %d of %d got %s: %s", r,
                  nranks, onehop_result_string(outcome->code), outcome->text);
            CHECK(outcome->code == ONEHOP_TIMEOUT || says_number(outcome->text, "pid", (uint64_t)pid),
                  "rank %d (pid %d) was killed, but rank %d says: %s", victim, pid, r, outcome->text);
            /* Rank 0 may find nobody, and wait its time, and then stay as long to tell others. */
            int64_t ms = (outcome->end - killed) / 1000000;
            CHECK(ms < 3 * m->timeout_ms, "rank %d returned %lld ms after the kill: %s", r, (long long)ms,
                  outcome->text);
            lost += outcome->code == ONEHOP_PEER_LOST;
        }
        if (strncmp(m->address, "unix:/", 6) == 0) unlink(m->address + 5); /* a dead rank 0 leaves it */
        meeting_free(m);
    }
    CHECK(lost > 0, "no loss was ever noticed as such");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talk),
        cmocka_unit_test(test_talk_64),
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_cards),
        cmocka_unit_test(test_torchrun),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_broken_table),
        cmocka_unit_test(test_disagree),
        cmocka_unit_test(test_exchange_mismatch),
        cmocka_unit_test(test_exchange_too_much),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_killed_parent),
        cmocka_unit_test(test_leave_at_once),
        cmocka_unit_test(test_leave_early),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_reason),
        cmocka_unit_test(test_child),
        cmocka_unit_test(test_run_out_in_exchange),
        cmocka_unit_test(test_run_out_at_open),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_death),
    };
    tests_begin("bootstrap");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
