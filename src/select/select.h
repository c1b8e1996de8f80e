/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice on hosts: which algorithm, in pieces of which size. A pure function of the question and tables, so that
 * all ranks choose alike. An algorithm is a row of `oh_algorithms`; what is best for which size is a row of a table.
 */
#ifndef OH_SELECT_SELECT_H
#define OH_SELECT_SELECT_H

#include "select/table.h"

typedef struct oh_algorithm_info {
    const char *name, *description;
    bool needs_registration; /* of sendbuf and recvbuf, on all ranks */
} oh_algorithm_info_t;

extern const oh_algorithm_info_t oh_algorithms[OH_ALGORITHMS];

/* What the configuration forces: "auto"; an algorithm's name; or, for measuring, "name:chunk:stream" or
 * "name:chunk:cached". */
typedef struct oh_forced {
    int algorithm;      /* or -1 */
    bool shaped;        /* as follows; else as tuned */
    size_t chunk_bytes; /* as in oh_plan_t */
    bool stream;
} oh_forced_t;

/* INVALID_ARGUMENT for a text that is none of these. */
onehop_result_t oh_forced_parse(const char *text, oh_forced_t *forced);

/* All that the choice depends on; every member is the same on all ranks. */
typedef struct oh_question {
    size_t bytes; /* of the message */
    oh_placement_t placement;
    bool registered; /* on all ranks */
    oh_forced_t forced;
    size_t chunk_max; /* what the workspace has room for */
} oh_question_t;

enum { OH_REASON_TEXT = sizeof(((onehop_choice_t *)0)->reason) };

/* `reason`, OH_REASON_TEXT bytes, receives why; NULL where nobody asks. */
oh_plan_t oh_select(const oh_question_t *question, const oh_host_tables_t *tables, char *reason);

/* The largest chunk that is forced, or that any row asks for: more workspace than that is of no use. */
size_t oh_select_chunk_max(const oh_forced_t *forced, const oh_host_tables_t *tables);

#endif
