/* SPDX-License-Identifier: Apache-2.0 */
/* Where the reductions of each instruction set are found; a table exists where the compiler's target can have it. */
#ifndef OH_BACKEND_HOST_REDUCE_TABLE_H
#define OH_BACKEND_HOST_REDUCE_TABLE_H

#include "backend/host/reduce.h"
#include "base/dtype.h"

typedef oh_reduce_fn oh_reduce_table_t[OH_DTYPES][OH_OPS];

/* oh_reduce_avx512_bf16 has only bfloat16; the others are complete. */
extern const oh_reduce_table_t oh_reduce_portable, oh_reduce_neon, oh_reduce_avx2, oh_reduce_avx512,
    oh_reduce_avx512_bf16;

#endif
