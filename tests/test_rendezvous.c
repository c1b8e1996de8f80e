/* SPDX-License-Identifier: Apache-2.0 */
/* How processes meet: at every kind of place, among strangers, and what each of them learns when it fails. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bootstrap/sock.h"
#include "bootstrap/wire.h"
#include "meeting.h"

#include <cmocka.h>

enum { NOBODY = 65534 };

static void check_cards(const oh_bootstrap_t *b, int rank, int nranks) {
    CHECK(oh_bootstrap_rank(b) == rank && oh_bootstrap_nranks(b) == nranks, "another rank");
    CHECK(oh_bootstrap_pid(b, rank) == getpid(), "another pid");
    for (int r = 0; r < nranks; r++) {
        const oh_card_t *card = oh_bootstrap_card(b, r);
        CHECK(card->rank == r && card->nranks == nranks && card->pid == oh_bootstrap_pid(b, r), "card %d is wrong", r);
    }
}

/* A rank that must succeed. */
static void join(meeting_t *m, int rank, int nranks) {
    oh_config_t config = meeting_config(m, rank, nranks);
    oh_bootstrap_t *b = meeting_open(m, &config, rank);
    CHECK(b != NULL, "%s", onehop_last_error());
    check_cards(b, rank, nranks);
    oh_bootstrap_close(b);
}

/* A rank that must fail. */
static void fail_to_join(meeting_t *m, const oh_config_t *config, int as) {
    CHECK(meeting_open(m, config, as) == NULL, "rank %d has met the others", config->rank);
}

/* ---- meeting ---- */

/* Again and again at one place, with nothing between. */
static void meet_often(int rank, int nranks, void *ctx) {
    resources_t before = resources_now();
    for (int i = 0; i < (nranks > 8 ? 2 : rounds(10, 3)); i++) join(ctx, rank, nranks);
    resources_check(before, "meetings");
}

static void test_meet(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        for (int nranks = 2; nranks <= rounds(8, 4); nranks++) {
            meeting_t *m = meeting_new(place);
            team_run(nranks, meet_often, m);
            meeting_free(m);
        }
    }
}

static void test_meet_64(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_run(64, meet_often, m);
        meeting_free(m);
    }
}

/* Rank 0 comes last: the others knock until it is there. */
static void host_comes_last(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    if (rank == 0) {
        CHECK(reaches(&m->signal[0], nranks - 1, patience_ms(10000)), "nobody came");
        nap_us(100000); /* so that the others have knocked in vain */
    }
    atomic_fetch_add(&m->signal[0], 1);
    join(m, rank, nranks);
}

static void test_host_comes_last(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_run(4, host_comes_last, m);
        meeting_free(m);
    }
}

/* ---- socket files ---- */

static void look_at_file(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    const char *path = m->address + 5;
    if (rank == 1) {
        struct stat status;
        int64_t deadline = now_ns() + patience_ms(10000) * 1000000;
        while (lstat(path, &status) != 0) CHECK(now_ns() < deadline, "%s does not appear", path);
        CHECK(status.st_mode == (S_IFSOCK | 0600), "the mode of the socket is %o", (unsigned)status.st_mode);
    }
    join(m, rank, nranks);
    if (rank == 0) CHECK(access(path, F_OK) != 0, "%s is still there", path);
}

static void test_file_is_private(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_FILE);
    mode_t mask = umask(0);
    team_run(2, look_at_file, m);
    umask(mask);
    meeting_free(m);
}

static void test_stale_file(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_FILE);
    close(hand_listen(m->address));
    CHECK(access(m->address + 5, F_OK) == 0, "there is no file to replace");
    team_run(3, meet_often, m);
    meeting_free(m);
}

/* Several hosts find a file left behind: one replaces it, the others are told that it is in use. */
static void host_alone(int rank, int nranks, void *ctx) {
    (void)nranks;
    meeting_t *m = ctx;
    team_barrier();
    oh_config_t config = meeting_config(m, 0, 2);
    fail_to_join(m, &config, rank);
}

static void test_stale_file_many_hosts(void **state) {
    (void)state;
    for (int i = 0; i < rounds(10, 3); i++) {
        meeting_t *m = meeting_new(AT_FILE);
        m->timeout_ms = 300;
        close(hand_listen(m->address));
        team_run(4, host_alone, m);
        int hosts = 0;
        for (int r = 0; r < 4; r++) {
            if (m->outcomes[r].code == ONEHOP_TIMEOUT) {
                hosts++;
            } else {
                meeting_expect_words(m, r, ONEHOP_SYSTEM_ERROR, "is already in use by process ");
            }
        }
        CHECK(hosts == 1, "%d hosts at one place", hosts);
        meeting_free(m);
    }
}

static void test_in_use(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        oh_config_t config = meeting_config(m, 0, 2);
        int listener = hand_listen(m->address);
        fail_to_join(m, &config, 0);
        if (place == AT_PORT) {
            meeting_expect(m, 0, ONEHOP_SYSTEM_ERROR,
                           "rendezvous %s: rank 0 cannot listen there: Address already in use", m->address);
        } else {
            meeting_expect(m, 0, ONEHOP_SYSTEM_ERROR, "rendezvous %s is already in use by process %d", m->address,
                           (int)getpid());
        }
        close(listener);
        if (place == AT_FILE) CHECK(unlink(m->address + 5) == 0, "the other's socket was removed");
        meeting_free(m);
    }
}

static void test_not_a_socket(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_FILE);
    int fd = open(m->address + 5, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0, "open: %s", strerror(errno));
    close(fd);
    for (int rank = 0; rank < 2; rank++) {
        oh_config_t config = meeting_config(m, rank, 2);
        fail_to_join(m, &config, rank);
        meeting_expect(m, rank, ONEHOP_INVALID_ARGUMENT, "rendezvous %s: the file exists and is not a socket",
                       m->address);
    }
    CHECK(unlink(m->address + 5) == 0, "the file was removed");
    meeting_free(m);
}

static void test_no_directory(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    snprintf(m->address, sizeof m->address, "unix:/nonexistent/onehop");
    oh_config_t config = meeting_config(m, 0, 2);
    fail_to_join(m, &config, 0);
    meeting_expect(m, 0, ONEHOP_SYSTEM_ERROR,
                   "rendezvous unix:/nonexistent/onehop: cannot open the directory: No such file or directory");
    meeting_free(m);
}

static void test_no_host(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    snprintf(m->address, sizeof m->address, "tcp:a..b:29500");
    for (int rank = 0; rank < 2; rank++) {
        oh_config_t config = meeting_config(m, rank, 2);
        fail_to_join(m, &config, rank);
        meeting_expect_words(m, rank, ONEHOP_INVALID_ARGUMENT, "rendezvous tcp:a..b:29500: the host cannot be found: ");
    }
    meeting_free(m);
}

/* ---- those who do not come ---- */

static void check_time(const meeting_t *m, int as, int64_t at_least_ms, int64_t at_most_ms) {
    int64_t ms = (m->outcomes[as].end - m->outcomes[as].begin) / 1000000;
    CHECK(ms >= at_least_ms && ms <= patience_ms(at_most_ms), "%d waited %lld ms: expected %lld to %lld", as,
          (long long)ms, (long long)at_least_ms, (long long)at_most_ms);
}

static void test_alone(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        m->timeout_ms = 300;
        oh_config_t host = meeting_config(m, 0, 2), joiner = meeting_config(m, 1, 2);
        fail_to_join(m, &host, 0);
        meeting_expect(m, 0, ONEHOP_TIMEOUT, "rank 1 of 2 did not appear at %s within 300 ms", m->address);
        check_time(m, 0, 300, 1000);
        fail_to_join(m, &joiner, 1);
        meeting_expect(m, 1, ONEHOP_TIMEOUT, "rank 0 did not appear at %s within 300 ms", m->address);
        check_time(m, 1, 300, 1000);
        meeting_free(m);
    }
}

/* Two come of four. */
static void wait_for_absent(int rank, int nranks, void *ctx) {
    (void)nranks;
    oh_config_t config = meeting_config(ctx, rank, 4);
    if (rank == 0) config.bootstrap_timeout_ms = 700;
    fail_to_join(ctx, &config, rank);
}

static void test_absent(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_run(2, wait_for_absent, m);
        for (int r = 0; r < 2; r++) {
            meeting_expect(m, r, ONEHOP_TIMEOUT, "ranks 2, 3 of 4 did not appear at %s within 700 ms", m->address);
        }
        meeting_free(m);
    }
}

/* The one who gives up first learns who was missing too, and so does rank 0, at once. */
static void wait_less(int rank, int nranks, void *ctx) {
    (void)nranks;
    oh_config_t config = meeting_config(ctx, rank, 3);
    if (rank == 1) config.bootstrap_timeout_ms = 600;
    if (rank == 0) config.bootstrap_timeout_ms = 1500;
    fail_to_join(ctx, &config, rank);
}

static void test_impatient(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(2, wait_less, m);
    char words[300];
    snprintf(words, sizeof words, "rank 2 of 3 did not appear at %s within ", m->address);
    meeting_expect_words(m, 0, ONEHOP_TIMEOUT, words);
    meeting_expect(m, 1, ONEHOP_TIMEOUT, "%s", m->outcomes[0].text);
    check_time(m, 1, 500, 600);
    meeting_free(m);
}

/* ---- those who are lost ---- */

/* Rank 2, made by hand, is accepted, and then killed; rank 3 comes when rank 1 knows. */
static void lose_joiner(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_config_t config = meeting_config(m, rank, nranks);
    if (rank != 2) {
        if (rank == 3) CHECK(reaches(&m->signal[1], 1, patience_ms(10000)), "rank 1 does not learn of it");
        fail_to_join(m, &config, rank);
        if (rank == 1) atomic_store(&m->signal[1], 1);
        return;
    }
    unsigned char body[64];
    oh_card_t card = hand_card(rank, nranks);
    m->outcomes[2].pid = (int)getpid();
    int socket = hand_connect(m->address);
    hand_greet(socket, &card);
    CHECK(hand_reply(socket, body, sizeof body) == OH_REPLY_ACCEPTED, "not accepted");
    CHECK((int)oh_get32(body) == m->outcomes[0].pid || m->outcomes[0].pid == 0, "the pid of rank 0 is another");
    atomic_store(&m->signal[0], 1);
    for (;;) pause();
}

static void test_lost_joiner(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_t *team = team_start(4, lose_joiner, m);
        CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "rank 2 is not accepted");
        int64_t killed = now_ns();
        team_signal(team, 2, SIGKILL);
        team_finish(team, 2);
        for (int r = 0; r < 4; r++) {
            if (r == 2) continue;
            meeting_expect(m, r, ONEHOP_PEER_LOST, "rank 2 (pid %d) died or left while it waited for others at %s",
                           m->outcomes[2].pid, m->address);
        }
        /* Rank 1 may have come before the kill or after it. */
        int64_t ms = (m->outcomes[1].end - killed) / 1000000;
        CHECK(ms < patience_ms(1000), "rank 1 learned of it after %lld ms", (long long)ms);
        meeting_free(m);
    }
}

/* Rank 0, made by hand, accepts and ends. */
static void lose_host(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    if (rank == 1) {
        oh_config_t config = meeting_config(m, rank, nranks);
        fail_to_join(m, &config, rank);
        return;
    }
    m->outcomes[0].pid = (int)getpid();
    int listener = hand_listen(m->address), socket = accept(listener, NULL, NULL);
    unsigned char greeting[OH_GREETING_BYTES], reply[OH_REPLY_BYTES + 4];
    CHECK(recv(socket, greeting, sizeof greeting, MSG_WAITALL) == (ssize_t)sizeof greeting, "no greeting");
    oh_reply_header(reply, OH_REPLY_ACCEPTED, 4);
    oh_put32(reply + OH_REPLY_BYTES, (uint32_t)getpid());
    CHECK(send(socket, reply, sizeof reply, MSG_NOSIGNAL) == (ssize_t)sizeof reply, "send: %s", strerror(errno));
    close(socket);
    close(listener);
    if (strncmp(m->address, "unix:/", 6) == 0) unlink(m->address + 5);
}

static void test_lost_host(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_run(2, lose_host, m);
        meeting_expect(m, 1, ONEHOP_PEER_LOST, "rank 0 (pid %d) died or left while ranks gathered at %s",
                       m->outcomes[0].pid, m->address);
        meeting_free(m);
    }
}

/* Rank 0 dies before it has accepted, and another takes its place: nothing has happened. */
static void replace_host(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    if (rank == 0) {
        int listener = hand_listen(m->address);
        close(accept(listener, NULL, NULL));
        close(listener);
    }
    join(m, rank, nranks);
}

static void test_replaced_host(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_FILE);
    team_run(2, replace_host, m);
    meeting_free(m);
}

/* ---- those who disagree ---- */

/* One rank, last or not, has another number of ranks. Rank 2 comes after all others know. */
static void disagree_on_nranks(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_config_t config = meeting_config(m, rank, rank == 1 ? nranks + 1 : nranks);
    if (rank == 2) CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "rank 1 does not fail");
    fail_to_join(m, &config, rank);
    if (rank == 1) atomic_store(&m->signal[0], 1);
}

static void test_nranks(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_run(3, disagree_on_nranks, m);
        for (int r = 0; r < 3; r++) {
            meeting_expect(m, r, ONEHOP_MISMATCH, "ranks disagree on nranks: rank 0 has 3, rank 1 has 4");
        }
        check_time(m, 0, 0, 3000); /* rank 0 need not stay once all know */
        meeting_free(m);
    }
}

/* Of an older Onehop, which means other things by what follows. */
static void disagree_on_version(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    if (rank != 2) {
        oh_config_t config = meeting_config(m, rank, nranks);
        fail_to_join(m, &config, rank);
        return;
    }
    oh_card_t card = hand_card(rank, nranks);
    card.protocol = 0;
    snprintf(card.version, sizeof card.version, "0.0.9");
    int socket = hand_connect(m->address);
    hand_greet(socket, &card);
    hand_expect_refusal(socket, ONEHOP_MISMATCH, "ranks disagree on the version of Onehop: rank 0 has");
    close(socket);
}

static void test_version(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_NAME);
    team_run(3, disagree_on_version, m);
    for (int r = 0; r < 2; r++) {
        meeting_expect(m, r, ONEHOP_MISMATCH,
                       "ranks disagree on the version of Onehop: rank 0 has %s (protocol %d), rank 2 has 0.0.9 "
                       "(protocol 0)",
                       onehop_version(), OH_CARD_PROTOCOL);
    }
    check_time(m, 0, 0, 3000);
    meeting_free(m);
}

static void be_rank_1_twice(int rank, int nranks, void *ctx) {
    oh_config_t config = meeting_config(ctx, rank == 2 ? 1 : rank, nranks);
    fail_to_join(ctx, &config, rank);
}

static void test_twice(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_FILE);
    m->timeout_ms = 1500; /* rank 0 waits for rank 2, who is never to come, to tell it */
    team_run(3, be_rank_1_twice, m);
    char words[400];
    snprintf(words, sizeof words, "two processes call themselves rank 1 at %s: pid ", m->address);
    for (int r = 0; r < 3; r++) {
        meeting_expect_words(m, r, ONEHOP_MISMATCH, words);
        CHECK(says_number(m->outcomes[r].text, "pid", (uint64_t)m->outcomes[1].pid), "rank 1's pid is not named");
        CHECK(says_number(m->outcomes[r].text, "pid", (uint64_t)m->outcomes[2].pid), "rank 2's pid is not named");
    }
    meeting_free(m);
}

/* After they were told, they do better at the same place, at once, though rank 0 may still be telling others. */
static void do_better(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    oh_config_t config = meeting_config(m, rank, rank == 1 ? nranks + 1 : nranks);
    if (rank == 2) nap_us(300000);
    fail_to_join(m, &config, rank);
    join(m, rank, nranks);
}

static void test_do_better(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_run(3, do_better, m);
        meeting_free(m);
    }
}

/* ---- strangers ---- */

/* What a stranger does with one connection. */
static void bother(int socket, uint64_t choice) {
    unsigned char bytes[OH_GREETING_BYTES];
    oh_card_t card = hand_card(1, 2);
    oh_card_encode(&card, bytes);
    size_t length = 0;
    switch (choice % 6) {
    case 0: break;                         /* silence */
    case 1: length = 3; break;             /* the beginning of something good */
    case 2: length = OH_CARD_BYTES; break; /* almost all of something good */
    case 3: memset(bytes, (int)(choice >> 8), length = 200); break;
    case 4:
        memset(bytes + 8, 0xff, length = sizeof bytes - 8);
        length += 8;
        break; /* begins well */
    case 5: memcpy(bytes, "GET / HTTP/1.1\r\n\r\n", length = 18); break;
    }
    (void)!send(socket, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Rank 2 of the team is the stranger. Rank 1 joins once rank 0 has been bothered by hundreds. */
static void meet_among_strangers(int rank, int nranks, void *ctx) {
    (void)nranks;
    meeting_t *m = ctx;
    enum { OPEN = 150 };
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 40;
    if (rank == 0 && atomic_load(&m->signal[2])) CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    if (rank == 1) CHECK(reaches(&m->signal[0], 2 * OPEN, patience_ms(20000)), "too few strangers");
    if (rank < 2) {
        join(m, rank, 2);
        atomic_store(&m->signal[1], 1);
        return;
    }
    int sockets[OPEN];
    rng_t rng = {tests_seed()};
    for (int i = 0; atomic_load(&m->signal[1]) == 0; i++) {
        if (i >= OPEN) close(sockets[i % OPEN]);
        /* Once rank 0 has heard enough it may leave while we knock. */
        sockets[i % OPEN] = i < 2 * OPEN ? hand_connect(m->address) : -1;
        if (i < 2 * OPEN) bother(sockets[i % OPEN], rng_next(&rng));
        if (i >= 2 * OPEN) nap_us(1000);
        atomic_fetch_add(&m->signal[0], 1);
    }
}

static void test_strangers(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        for (int few_descriptors = 0; few_descriptors < 2; few_descriptors++) {
            meeting_t *m = meeting_new(place);
            atomic_store(&m->signal[2], few_descriptors);
            team_run(3, meet_among_strangers, m);
            check_time(m, 1, 0, 1000);
            meeting_free(m);
        }
    }
}

/* A greeting that comes byte by byte is as good as any, and delays nobody. */
static void speak_slowly(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    if (rank != 2) {
        /* Rank 3 comes last, so that the meeting does not end before. */
        if (rank == 3) CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "rank 2 is not accepted");
        oh_config_t config = meeting_config(m, rank, nranks);
        fail_to_join(m, &config, rank);
        return;
    }
    unsigned char greeting[OH_GREETING_BYTES], body[64];
    oh_card_t card = hand_card(rank, nranks);
    oh_card_encode(&card, greeting);
    oh_put32(greeting + OH_CARD_BYTES, 60000);
    int socket = hand_connect(m->address);
    for (size_t i = 0; i < sizeof greeting; i++) {
        CHECK(send(socket, greeting + i, 1, MSG_NOSIGNAL) == 1, "send: %s", strerror(errno));
        if (i % 64 == 0) nap_us(100);
    }
    CHECK(hand_reply(socket, body, sizeof body) == OH_REPLY_ACCEPTED, "not accepted");
    close(socket);
    atomic_store(&m->signal[0], 1);
}

static void test_slow_speaker(void **state) {
    (void)state;
    meeting_t *m = meeting_new(AT_PORT);
    team_run(4, speak_slowly, m);
    for (int r = 0; r < 4; r++) {
        if (r != 2) meeting_expect_words(m, r, ONEHOP_PEER_LOST, "rank 2 (pid ");
    }
    meeting_free(m);
}

/* Rank 1 of another job is refused; this job's rank 1 is let in. */
static void mistake_the_job(int rank, int nranks, void *ctx) {
    (void)nranks;
    meeting_t *m = ctx;
    oh_config_t config = meeting_config(m, rank == 2 ? 1 : rank, 2);
    snprintf(config.job, sizeof config.job, rank == 2 ? "yours" : "mine");
    if (rank == 2) {
        fail_to_join(m, &config, rank);
        atomic_store(&m->signal[0], 1);
        return;
    }
    if (rank == 1) CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "the stranger is not refused");
    oh_bootstrap_t *b = meeting_open(m, &config, rank);
    CHECK(b != NULL, "%s", onehop_last_error());
    oh_bootstrap_close(b);
}

static void test_other_job(void **state) {
    (void)state;
    for (place_t place = 0; place < PLACES; place++) {
        meeting_t *m = meeting_new(place);
        team_run(3, mistake_the_job, m);
        meeting_expect(m, 2, ONEHOP_MISMATCH,
                       "at %s the ranks of job \"mine\" meet, but rank 1 (pid %d) is of job \"yours\"", m->address,
                       m->outcomes[2].pid);
        meeting_free(m);
    }
}

static void become_nobody(void) {
    CHECK(setgid(NOBODY) == 0 && setuid(NOBODY) == 0, "setuid: %s", strerror(errno));
    prctl(PR_SET_DUMPABLE, 1); /* for leak checkers */
}

/* Rank 1 of another user is refused; this user's rank 1 is let in. */
static void mistake_the_user(int rank, int nranks, void *ctx) {
    (void)nranks;
    meeting_t *m = ctx;
    if (rank == 2) {
        become_nobody();
        close(hand_connect(m->address)); /* rank 0 is there */
        oh_config_t config = meeting_config(m, 1, 2);
        fail_to_join(m, &config, rank);
        atomic_store(&m->signal[0], 1);
        return;
    }
    if (rank == 1) CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "the stranger is not refused");
    join(m, rank, 2);
}

static void test_other_user(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    meeting_t *m = meeting_new(AT_NAME);
    team_run(3, mistake_the_user, m);
    meeting_expect(m, 2, ONEHOP_UNSUPPORTED,
                   "ranks must run under one user: process %d, which listens at %s, has uid 0, rank 1 (pid %d) has uid "
                   "65534",
                   m->outcomes[0].pid, m->address, m->outcomes[2].pid);
    meeting_free(m);
}

/* One who does not look whom it calls is refused by who is called. */
static void call_another_user(int rank, int nranks, void *ctx) {
    (void)nranks;
    meeting_t *m = ctx;
    if (rank == 2) {
        become_nobody();
        int socket = hand_connect(m->address);
        hand_expect_refusal(socket, ONEHOP_UNSUPPORTED, "rank 0 has uid 0, process ");
        close(socket);
        atomic_store(&m->signal[0], 1);
        return;
    }
    if (rank == 1) CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "the stranger is not refused");
    join(m, rank, 2);
}

static void test_called_by_other_user(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    meeting_t *m = meeting_new(AT_NAME);
    team_run(3, call_another_user, m);
    meeting_free(m);
}

/* The file of another user cannot be opened. */
static void knock_at_closed_file(int rank, int nranks, void *ctx) {
    (void)nranks;
    meeting_t *m = ctx;
    if (rank == 2) {
        int64_t deadline = now_ns() + patience_ms(10000) * 1000000;
        while (access(m->address + 5, F_OK) != 0) CHECK(now_ns() < deadline, "there is no file");
        become_nobody();
        oh_config_t config = meeting_config(m, 1, 2);
        fail_to_join(m, &config, rank);
        atomic_store(&m->signal[0], 1);
        return;
    }
    if (rank == 1) CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "the stranger is not refused");
    join(m, rank, 2);
}

static void test_file_of_other_user(void **state) {
    (void)state;
    if (geteuid() != 0) skip();
    meeting_t *m = meeting_new(AT_FILE);
    team_run(3, knock_at_closed_file, m);
    meeting_expect(m, 2, ONEHOP_SYSTEM_ERROR, "rendezvous %s: connect: Permission denied", m->address);
    meeting_free(m);
}

/* ---- those who are not rank 0 ---- */

typedef struct impostor {
    const char *says;
    size_t length;
    onehop_result_t code;
    const char *words;
} impostor_t;

static const impostor_t impostors[] = {
    {"HTTP/1.1 400 Bad Request\r\n", 26, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"},
    {"ONEHOP>\n\1\0\0\0\5\0\0\0zzzzz", 21, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"}, /* accepted, but how */
    {"ONEHOP>\n\2\0\0\0\4\0\0\0zzzz", 20, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"},  /* too few cards */
    {"ONEHOP>\n\3\0\0\0\3\0\0\0zzz", 19, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"},   /* refused without why */
    {"ONEHOP>\n\3\0\0\0\4\0\0\0\0\0\0\0", 20, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"}, /* ... with success */
    {"ONEHOP>\n\3\0\0\0\4\0\0\0\x63\0\0\0", 20, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"},
    {"ONEHOP>\n\4\0\0\0\4\0\0\0zzzz", 20, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"},
    {"ONEHOP>\n\2\0\0\0\xff\xff\xff\xff", 16, ONEHOP_SYSTEM_ERROR, " is not rank 0 of Onehop"},
    {"", 0, ONEHOP_TIMEOUT, " did not answer as rank 0 would within 400 ms"},
    {"ONEHOP>\n\3\0\0\0\xff\0\0\0abc", 19, ONEHOP_TIMEOUT, " did not answer as rank 0 would within 400 ms"},
    {"ONEHOP>\n\1\0\0\0\4\0\0\0\7\0\0\0", 20, ONEHOP_TIMEOUT, "rank 0 (pid 7) at "}, /* and does no more */
};

static void call_impostor(int rank, int nranks, void *ctx) {
    meeting_t *m = ctx;
    const impostor_t *impostor = &impostors[atomic_load(&m->signal[1])];
    if (rank == 1) {
        oh_config_t config = meeting_config(m, rank, nranks);
        config.bootstrap_timeout_ms = 400;
        team_barrier();
        fail_to_join(m, &config, rank);
        atomic_store(&m->signal[0], 1);
        return;
    }
    int listener = hand_listen(m->address);
    team_barrier();
    int socket = accept(listener, NULL, NULL);
    CHECK(send(socket, impostor->says, impostor->length, MSG_NOSIGNAL) == (ssize_t)impostor->length, "send");
    CHECK(reaches(&m->signal[0], 1, patience_ms(10000)), "rank 1 still waits");
    close(socket);
    close(listener);
}

static void test_impostors(void **state) {
    (void)state;
    for (int i = 0; i < (int)(sizeof impostors / sizeof *impostors); i++) {
        meeting_t *m = meeting_new(i % 2 == 0 ? AT_NAME : AT_PORT);
        atomic_store(&m->signal[1], i);
        team_run(2, call_impostor, m);
        meeting_expect_words(m, 1, impostors[i].code, impostors[i].words);
        check_time(m, 1, 0, 1000);
        meeting_free(m);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meet),
        cmocka_unit_test(test_meet_64),
        cmocka_unit_test(test_host_comes_last),
        cmocka_unit_test(test_file_is_private),
        cmocka_unit_test(test_stale_file),
        cmocka_unit_test(test_stale_file_many_hosts),
        cmocka_unit_test(test_in_use),
        cmocka_unit_test(test_not_a_socket),
        cmocka_unit_test(test_no_directory),
        cmocka_unit_test(test_no_host),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_impatient),
        cmocka_unit_test(test_lost_joiner),
        cmocka_unit_test(test_lost_host),
        cmocka_unit_test(test_replaced_host),
        cmocka_unit_test(test_nranks),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_do_better),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_slow_speaker),
        cmocka_unit_test(test_other_job),
        cmocka_unit_test(test_other_user),
        cmocka_unit_test(test_called_by_other_user),
        cmocka_unit_test(test_file_of_other_user),
        cmocka_unit_test(test_impostors),
    };
    tests_begin("rendezvous");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
