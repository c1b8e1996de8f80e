/* SPDX-License-Identifier: Apache-2.0 */
/* Result codes with a sentence: every failure in the library passes through oh_fail. */
#ifndef OH_BASE_STATUS_H
#define OH_BASE_STATUS_H

#include "onehop.h"

enum { OH_ERROR_TEXT = 512 };

/* Stores the sentence as this thread's last error and returns `code`: `return oh_fail(ONEHOP_..., "count %zu ...", n)`.
 */
onehop_result_t oh_fail(onehop_result_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, ending in ": " and what errno says; OUT_OF_MEMORY where errno is about memory or descriptors, else
 * SYSTEM_ERROR. */
onehop_result_t oh_fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Gives up at the first failure, passing it on. */
#define OH_TRY(call)                                                                                                   \
    do {                                                                                                               \
        onehop_result_t oh_result_ = (call);                                                                           \
        if (oh_result_ != ONEHOP_SUCCESS) return oh_result_;                                                           \
    } while (0)

#endif
