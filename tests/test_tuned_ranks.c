/* SPDX-License-Identifier: Apache-2.0 */
/* Tuning tables between ranks: rank 0's decides for all, or fails for all; whatever the others have. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "message.h"

#include <cmocka.h>

enum { RANKS = 3, MIB = 1 << 20, CHUNK = 12288 };

/* ---- files ---- */

static char folder[64], usual[96], good[128], bad[128];

/* One table for every placement, whose only row no built-in table has. */
static void write_table(const char *path, const char *algorithm) {
    static const char *const placements[] = {"near", "far", "oversubscribed"};
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "cannot write %s", path);
    fprintf(file,
            "{\"schema\": \"onehop-tuning-1\", \"version\": \"%s\", \"date\": \"2026-11-21T00:00:00Z\", \"host\": "
            "\"here\", \"tables\": [",
            onehop_version());
    for (int i = 0; i < 3; i++) {
        fprintf(file,
                "%s{\"device\": \"host\", \"placement\": \"%s\", \"nranks\": %d, \"registered\": false, \"rows\": "
                "[{\"from_bytes\": 0, \"algorithm\": \"%s\", \"chunk_bytes\": %d, \"stream\": true}]}",
                i > 0 ? ", " : "", placements[i], RANKS, algorithm, CHUNK);
    }
    fprintf(file, "]}\n");
    CHECK(fclose(file) == 0, "cannot write %s", path);
}

static int make_files(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/onehop-test-tuned-XXXXXX");
    if (mkdtemp(folder) == NULL) return -1;
    snprintf(usual, sizeof usual, "%s/onehop", folder);
    snprintf(good, sizeof good, "%s/tuning.json", usual);
    snprintf(bad, sizeof bad, "%s/bad.json", folder);
    if (mkdir(usual, 0700) != 0) return -1;
    write_table(good, "one_shot");
    write_table(bad, "two_shots");
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* ---- ranks ---- */

/* What rank 0 is configured to use, and what the others are. */
typedef struct wishes {
    const char *first, *others;
    const char *words; /* of what is in force, or of the error */
    bool tuned;
} wishes_t;

/* All ranks say the same of themselves, and of every size; and what they do is right. */
static void check_comm(onehop_comm_t *comm, const char *words, bool tuned) {
    onehop_comm_info_t info = {.size = sizeof info};
    CHECK_SUCCESS(onehop_comm_get_info(comm, &info));
    CHECK(info.tuning != NULL && strstr(info.tuning, words) != NULL, "\"%s\" is not in: %s", words, info.tuning);
    for (size_t bytes = 64; bytes <= MIB; bytes *= 4) {
        onehop_choice_t choice = {.size = sizeof choice};
        CHECK_SUCCESS(onehop_comm_explain(comm, bytes, ONEHOP_INT8, ONEHOP_SUM, 0, &choice));
        const char *source = tuned ? "tuning.json (" : "built-in table (";
        CHECK(strncmp(choice.reason, source, strlen(source)) == 0, "%s", choice.reason);
        size_t chunk = bytes < CHUNK ? bytes : CHUNK;
        CHECK(!tuned || (strcmp(choice.algorithm, "one_shot") == 0 && choice.chunk_bytes == chunk), "%zu bytes: %s %zu",
              bytes, choice.algorithm, choice.chunk_bytes);
    }
    area_t area = area_new(MIB + 4096);
    for (size_t count = 1; count <= MIB / 8; count *= 8) {
        const message_t message = {count + 1, ONEHOP_FLOAT32, ONEHOP_SUM, DATA_EXACT, tests_seed()};
        all_reduce_checked(comm, &message, area, NULL, area.start + GUARD);
    }
    area_free(area);
}

static void agree(int rank, int nranks, void *ctx) {
    const wishes_t *w = ctx;
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.tuning = rank == 0 ? w->first : w->others;
    onehop_comm_t *comm = team_join(rank, nranks, 0, &wish);
    check_comm(comm, w->words, w->tuned);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_rank_0_decides(void **state) {
    (void)state;
    wishes_t cases[] = {
        {good, "built-in", "tuning.json, made 2026-11-21 on here", true},
        {good, "/there/is/none", "tuning.json, made 2026-11-21 on here", true},
        {good, bad, "tuning.json, made 2026-11-21 on here", true},
        {"built-in", good, "built-in table", false},
        {"model", bad, "built-in table", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) team_run(RANKS, agree, &cases[i]);
    /* Other numbers of ranks have no table in it. */
    wishes_t fewer = {good, NULL, "built-in table; there is none for these ranks in /tmp/", false};
    team_run(RANKS - 1, agree, &fewer);
}

/* Nobody gets a communicator, all are told why, nothing is left; and a new one can be made. */
static void fail_together(int rank, int nranks, void *ctx) {
    const wishes_t *w = ctx;
    char name[96];
    team_rendezvous(0, name, sizeof name);
    onehop_config_t config = team_config(rank, nranks, name);
    config.tuning = rank == 0 ? w->first : w->others;
    resources_t before = resources_now();
    for (int i = 0; i < 2; i++) {
        onehop_comm_t *comm = (onehop_comm_t *)&comm;
        CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, w->words, onehop_comm_create(&config, &comm));
        CHECK(comm == NULL, "a failed create left a pointer behind");
        resources_check(before, "after a table was refused");
    }
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.tuning = good;
    onehop_comm_t *comm = team_join(rank, nranks, 1, &wish);
    check_comm(comm, "tuning.json, made", true);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_rank_0_fails_for_all(void **state) {
    (void)state;
    wishes_t cases[] = {
        {bad, good, "bad.json: table 1, row 1: algorithm is \"two_shots\": expected one of one_shot, two_shot, direct",
         false},
        {"/there/is/none", "built-in", "rank 0: tuning file /there/is/none cannot be opened: No such file or directory",
         false},
        {"/tmp", bad, "rank 0: tuning file /tmp: expected a regular file", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) team_run(RANKS, fail_together, &cases[i]);
}

/* ---- the usual place ---- */

static void usual_place(int rank, int nranks, void *ctx) {
    const wishes_t *w = ctx;
    setenv("ONEHOP_TUNING", "", 1);
    setenv("XDG_CONFIG_HOME", rank == 0 ? w->first : w->others, 1);
    onehop_comm_t *comm = team_join(rank, nranks, 0, NULL);
    check_comm(comm, w->words, w->tuned);
    CHECK_SUCCESS(onehop_comm_destroy(comm));
}

static void test_usual_place(void **state) {
    (void)state;
    wishes_t there = {folder, "/there/is/none", "tuning.json, made 2026-11-21 on here", true};
    team_run(RANKS, usual_place, &there);
    wishes_t elsewhere = {"/there/is/none", folder, "built-in table", false};
    team_run(RANKS, usual_place, &elsewhere);
    /* A file that nobody asked for is left aside if it will not do. */
    wishes_t refused = {folder, folder, "built-in table; refused: tuning file /tmp/onehop-test-tuned-", false};
    write_table(good, "two_shots");
    team_run(RANKS, usual_place, &refused);
    write_table(good, "one_shot");
}

/* ---- ranks of one process ---- */

typedef struct local_rank {
    onehop_comm_t *comm;
    pthread_t thread;
} local_rank_t;

static void *check_local(void *argument) {
    check_comm(((local_rank_t *)argument)->comm, "tuning.json, made", true);
    return NULL;
}

static void threads(int rank, int nranks, void *ctx) {
    (void)rank, (void)nranks, (void)ctx;
    onehop_comm_t *comms[RANKS];
    local_rank_t ranks[RANKS];
    setenv("ONEHOP_TUNING", bad, 1);
    CHECK_FAILS(ONEHOP_INVALID_ARGUMENT, "rank 0: tuning file ",
                onehop_comm_create_local(RANKS, NULL, ONEHOP_DEVICE_HOST, comms));
    setenv("ONEHOP_TUNING", good, 1);
    CHECK_SUCCESS(onehop_comm_create_local(RANKS, NULL, ONEHOP_DEVICE_HOST, comms));
    for (int r = 0; r < RANKS; r++) {
        ranks[r].comm = comms[r];
        CHECK(pthread_create(&ranks[r].thread, NULL, check_local, &ranks[r]) == 0, "no thread");
    }
    for (int r = 0; r < RANKS; r++) pthread_join(ranks[r].thread, NULL);
    for (int r = 0; r < RANKS; r++) CHECK_SUCCESS(onehop_comm_destroy(comms[r]));
}

static void test_threads(void **state) {
    (void)state;
    team_run(1, threads, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rank_0_decides),
        cmocka_unit_test(test_rank_0_fails_for_all),
        cmocka_unit_test(test_usual_place),
        cmocka_unit_test(test_threads),
    };
    tests_begin("tuned_ranks");
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
