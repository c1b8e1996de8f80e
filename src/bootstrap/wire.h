/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as little-endian bytes. */
#ifndef OH_BOOTSTRAP_WIRE_H
#define OH_BOOTSTRAP_WIRE_H

#include <stdint.h>

static inline void oh_put32(unsigned char *bytes, uint32_t value) {
    for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(value >> 8 * i);
}

static inline uint32_t oh_get32(const unsigned char *bytes) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value |= (uint32_t)bytes[i] << 8 * i;
    return value;
}

static inline void oh_put64(unsigned char *bytes, uint64_t value) {
    oh_put32(bytes, (uint32_t)value);
    oh_put32(bytes + 4, (uint32_t)(value >> 32));
}

static inline uint64_t oh_get64(const unsigned char *bytes) {
    return oh_get32(bytes) | (uint64_t)oh_get32(bytes + 4) << 32;
}

#endif
