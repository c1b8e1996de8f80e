/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels' source texts, part of the library: src/kernels/ and what it includes, as cmake/embed.cmake wrote them.
 */
#ifndef OH_BACKEND_CUDA_SOURCES_H
#define OH_BACKEND_CUDA_SOURCES_H

typedef struct oh_source {
    const char *name; /* path from src/: "kernels/packet.h" */
    const char *text;
} oh_source_t;

extern const oh_source_t oh_sources[];
extern const int oh_nsources;

#endif
