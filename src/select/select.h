/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of algorithm: a pure function of the question and a table, so that all ranks choose alike.
 * An algorithm is a row of `oh_algorithms`; what is best for which size is a row of the tuning table.
 */
#ifndef OH_SELECT_SELECT_H
#define OH_SELECT_SELECT_H

#include "plan.h"
#include "topology/topology.h"

typedef struct oh_algorithm_info {
    const char *name, *description;
    bool needs_registration; /* of sendbuf and recvbuf, on all ranks */
} oh_algorithm_info_t;

extern const oh_algorithm_info_t oh_algorithms[OH_ALGORITHMS];

/* All that the choice depends on; every member is the same on all ranks. */
typedef struct oh_question {
    size_t bytes; /* of the message */
    oh_placement_t placement;
    bool registered;  /* on all ranks */
    int forced;       /* an oh_algorithm_t, or -1 */
    size_t chunk_max; /* what the workspace has room for */
} oh_question_t;

enum { OH_REASON_TEXT = sizeof(((onehop_choice_t *)0)->reason) };

/* `reason`, OH_REASON_TEXT bytes, receives why; NULL where nobody asks. */
oh_plan_t oh_select(const oh_question_t *question, char *reason);

/* The algorithm that the configuration forces: -1 for "auto"; INVALID_ARGUMENT for a name that is none. */
onehop_result_t oh_select_forced(const char *name, int *forced);

/* The largest chunk that any row of the table asks for: more workspace than that needs is of no use. */
size_t oh_select_chunk_max(void);

#endif
