/* SPDX-License-Identifier: Apache-2.0 */
/* The reductions once more, as the contract in onehop.h words them: one element at a time, with no trick. */
#ifndef TESTS_REDUCE_REFERENCE_H
#define TESTS_REDUCE_REFERENCE_H

#include <stddef.h>

#include "onehop.h"

/* dst[i] = op over s of src[s][i], for buffers of any alignment. */
void reference_reduce(onehop_dtype_t dtype, onehop_op_t op, void *dst, const void *const *src, int nsrc, size_t count);

/* Element i becomes the value nearest to `value`. */
void reference_set(onehop_dtype_t dtype, void *buffer, size_t i, double value);

#endif
