/* SPDX-License-Identifier: Apache-2.0 */
/* Loads and stores of part of a vector, for instruction sets without byte masks. */
#ifndef OH_BACKEND_HOST_REDUCE_PART_H
#define OH_BACKEND_HOST_REDUCE_PART_H

#include "backend/host/reduce_vector.h"

/* Copies n bytes, size <= n <= 2 * size, as two pieces of a constant size that may overlap. */
OH_INLINE void oh_copy_ends(unsigned char *to, const unsigned char *from, size_t n, size_t size) {
    memcpy(to, from, size);
    memcpy(to + n - size, from + n - size, size);
}

/* 1 ... 31 bytes, without a call. */
OH_INLINE void oh_copy_part(unsigned char *to, const unsigned char *from, size_t n) {
    if (n >= 16) {
        oh_copy_ends(to, from, n, 16);
    } else if (n >= 8) {
        oh_copy_ends(to, from, n, 8);
    } else if (n >= 4) {
        oh_copy_ends(to, from, n, 4);
    } else if (n >= 2) {
        oh_copy_ends(to, from, n, 2);
    } else {
        *to = *from;
    }
}

OH_INLINE oh_raw_t oh_load_part(const unsigned char *p, size_t bytes) {
    oh_raw_t v = {0};
    oh_copy_part((unsigned char *)&v, p, bytes);
    return v;
}

OH_INLINE void oh_store_part(unsigned char *p, oh_raw_t v, size_t bytes) {
    oh_copy_part(p, (const unsigned char *)&v, bytes);
}

#endif
