/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in tuning table: from which size on which algorithm, in pieces of which size. Measured by bench/host. */
#ifndef OH_SELECT_TABLE_H
#define OH_SELECT_TABLE_H

#include "plan.h"
#include "topology/topology.h"

typedef struct oh_table_row {
    oh_placement_t placement;
    bool registered; /* the row holds for registered buffers only */
    size_t from_bytes;
    oh_algorithm_t algorithm;
    size_t chunk_bytes;
    bool stream; /* as in oh_plan_t */
} oh_table_row_t;

extern const oh_table_row_t oh_host_table[];
extern const size_t oh_host_table_rows;

#endif
