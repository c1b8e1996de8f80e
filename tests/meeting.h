/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the bootstrap share: ranks that meet, what each of them got, and a hand-made rank. */
#ifndef TESTS_MEETING_H
#define TESTS_MEETING_H

#include <stdatomic.h>

#include "bootstrap/bootstrap.h"
#include "bootstrap/rendezvous.h"
#include "harness.h"

/* What a rank got. */
typedef struct outcome {
    onehop_result_t code;
    char text[512];
    int64_t begin, end; /* of the call */
    int pid;
} outcome_t;

/* Shared by the ranks of a team and the supervisor. */
typedef struct meeting {
    char address[256];
    int timeout_ms;
    _Atomic int signal[4]; /* for tests that need to know how far others are */
    outcome_t outcomes[ONEHOP_MAX_RANKS];
} meeting_t;

typedef enum place { AT_FILE, AT_NAME, AT_PORT, PLACES } place_t;

/* A new place of this kind to meet at. */
meeting_t *meeting_new(place_t place);
/* Also checks that no file is left. */
void meeting_free(meeting_t *m);

oh_config_t meeting_config(const meeting_t *m, int rank, int nranks);

/* Opens, records what came of it, and checks on failure that no descriptor is left. NULL on failure. */
oh_bootstrap_t *meeting_open(meeting_t *m, const oh_config_t *config, int as);
/* The same for any call. */
void meeting_record(meeting_t *m, int as, int64_t begin, onehop_result_t code);

/* What `as` got: the code, and the whole sentence or some words of it. */
void meeting_expect(const meeting_t *m, int as, onehop_result_t code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void meeting_expect_words(const meeting_t *m, int as, onehop_result_t code, const char *words);

/* ---- a rank made by hand ---- */

/* A card as a rank of this process would send. */
oh_card_t hand_card(int rank, int nranks);
/* Connects, once somebody listens. The socket blocks. */
int hand_connect(const char *address);
int hand_listen(const char *address);
void hand_greet(int socket, const oh_card_t *card);
/* Reads one reply: its kind; 0 if the connection has ended. */
uint32_t hand_reply(int socket, unsigned char *body, size_t room);
/* Reads one reply, which must be a refusal with these words. */
void hand_expect_refusal(int socket, onehop_result_t code, const char *words);

#endif
