/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions of every type, and OH_REDUCE_ALL, the rows that they make in a table. */
#include "backend/host/reduce_average.h"
#include "backend/host/reduce_kernel.h"

OH_REDUCE_FLOAT(FLOAT32)
OH_REDUCE_FLOAT(FLOAT16)
OH_REDUCE_FLOAT(BFLOAT16)
OH_REDUCE_FLOAT(FLOAT64)
OH_REDUCE_INTEGER(INT8)
OH_REDUCE_INTEGER(UINT8)
OH_REDUCE_INTEGER(INT32)
OH_REDUCE_INTEGER(UINT32)
OH_REDUCE_INTEGER(INT64)
OH_REDUCE_INTEGER(UINT64)

#define OH_REDUCE_ALL                                                                                                  \
    OH_REDUCE_ROW(FLOAT32), OH_REDUCE_ROW(FLOAT16), OH_REDUCE_ROW(BFLOAT16), OH_REDUCE_ROW(FLOAT64),                   \
        OH_REDUCE_ROW(INT8), OH_REDUCE_ROW(UINT8), OH_REDUCE_ROW(INT32), OH_REDUCE_ROW(UINT32), OH_REDUCE_ROW(INT64),  \
        OH_REDUCE_ROW(UINT64)
