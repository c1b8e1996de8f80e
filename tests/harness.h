/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What integration tests stand on: teams of real processes under a supervisor with a time limit, checks that work in
 * every process and thread, reproducible randomness, and counts of what a process holds.
 *
 * A test runs in the supervisor (cmocka's process); what uses the library with several ranks runs in a team:
 *
 *     static void body(int rank, int nranks, void *ctx) { ... CHECK(...); }
 *     static void test(void **state) { team_run(4, body, ctx); }
 *
 * Memory that the ranks and the supervisor share comes from shared_zalloc().
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "onehop.h"

/* ---- Checks: in a rank (any thread of it) a failure is recorded for the supervisor and ends the process. ---- */

#define CHECK(condition, ...)        ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__))
#define CHECK_RESULT(expected, call) check_result(__FILE__, __LINE__, #call, expected, call)
#define CHECK_SUCCESS(call)          CHECK_RESULT(ONEHOP_SUCCESS, call)
/* The call fails with `expected`, and the last error contains `words`. */
#define CHECK_FAILS(expected, words, call)                                                                             \
    (check_result(__FILE__, __LINE__, #call, expected, call), check_error_says(__FILE__, __LINE__, words))

_Noreturn void check_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void check_result(const char *file, int line, const char *call, onehop_result_t expected, onehop_result_t actual);
void check_error_says(const char *file, int line, const char *words);

/* Whether `text` contains `word` (followed by the number) not as part of a longer word or number. */
bool says_word(const char *text, const char *word);
bool says_number(const char *text, const char *word, uint64_t number);

/* What this rank is about to do: the supervisor shows it when the rank hangs or dies. */
void doing(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- Runs ---- */

/* First thing in main(): prints the seed, and makes this process the reaper of all that its ranks leave behind. */
void tests_begin(const char *name);
/* ONEHOP_TEST_SEED, else fresh. */
uint64_t tests_seed(void);
/* ONEHOP_TEST_QUICK=1 asks for a shorter run: `full` or `quick`. */
int rounds(int full, int quick);
/* How long a test that only ends with its time goes on: ONEHOP_TEST_SECONDS, else `usual`. */
int tests_seconds(int usual);
/* A limit on time, stretched where a sanitizer slows everything down. */
int64_t patience_ms(int64_t ms);
int64_t now_ns(void);
void nap_us(int64_t us);
/* Whether `flag` reaches at least `value` in time. */
bool reaches(_Atomic int *flag, int value, int64_t ms);

/* ---- Randomness: the same stream for the same seed, on every rank ---- */

typedef struct rng {
    uint64_t state;
} rng_t;

uint64_t mix64(uint64_t x);
uint64_t rng_next(rng_t *rng);
uint64_t rng_below(rng_t *rng, uint64_t bound);
/* Each power of two up to `bound` is as likely as the next. */
uint64_t rng_log_below(rng_t *rng, uint64_t bound);

/* ---- Teams ---- */

typedef struct team team_t;
typedef void (*rank_fn)(int rank, int nranks, void *ctx);

team_t *team_start(int nranks, rank_fn body, void *ctx);
pid_t team_pid(const team_t *team, int rank);
void team_signal(team_t *team, int rank, int signal);
/* Waits for all ranks and fails the test if one failed, died (but for those that team_signal has killed, and for
 * `killed`, which must have been; -1: none), exceeded the time limit, or left a process behind. */
void team_finish(team_t *team, int killed);
void team_run(int nranks, rank_fn body, void *ctx);

/* In a rank: waits until every rank of the team is here; without Onehop. */
void team_barrier(void);
/* In a rank: the name under which the team's communicator number `generation` meets. */
void team_rendezvous(int generation, char *name, size_t size);
/* A configuration for the host with this name. */
onehop_config_t team_config(int rank, int nranks, const char *name);
/* In a rank: creates the communicator; `wish` (may be NULL) gives what is not rank, nranks and rendezvous. */
onehop_comm_t *team_join(int rank, int nranks, int generation, const onehop_config_t *wish);

void *shared_zalloc(size_t bytes);
void shared_free(void *memory, size_t bytes);

/* ---- What a process holds ---- */

typedef struct resources {
    int descriptors, mappings, threads; /* mappings: of shared memory */
} resources_t;

resources_t resources_now(void);
/* Fails unless this process holds what it held `before`. */
void resources_check(resources_t before, const char *when);
/* Fails if files or sockets that look like Onehop's have appeared since tests_begin(). */
void leftovers_check(void);

#endif
