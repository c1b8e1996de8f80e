/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of data types and operations. */
#ifndef OH_BASE_DTYPE_H
#define OH_BASE_DTYPE_H

#include "onehop.h"

enum { OH_DTYPES = 10, OH_OPS = 5 };

static inline int oh_dtype_valid(onehop_dtype_t dtype) { return (unsigned)dtype < OH_DTYPES; }
static inline int oh_op_valid(onehop_op_t op) { return (unsigned)op < OH_OPS; }

/* log2 of an element's size; dtype must be valid. */
static inline unsigned oh_dtype_shift(onehop_dtype_t dtype) {
    /* float32 float16 bfloat16 float64 int8 uint8 int32 uint32 int64 uint64 */
    static const unsigned char shift[OH_DTYPES] = {2, 1, 1, 3, 0, 0, 2, 2, 3, 3};
    return shift[dtype];
}

#endif
