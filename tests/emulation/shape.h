/* SPDX-License-Identifier: Apache-2.0 */
/* The workspace that kernels are emulated with; arena/device_sizes.h says what is what. */
#ifndef SHAPE_H
#define SHAPE_H

#include "arena/device_layout.h"

enum { EMULATED_TEAMS = 2, EMULATED_RING = 4, EMULATED_SLOT_PACKETS = 64, EMULATED_PAGE_BYTES = 2048 };

#define EMULATED_NOTICES_AT(nranks)                                                                                    \
    (OH_PACKETS_AT +                                                                                                   \
     OH_RINGS * EMULATED_RING * ((nranks) > 1 ? (nranks)-1 : 1) * EMULATED_TEAMS * EMULATED_SLOT_PACKETS * OH_PACKET)
#define EMULATED_PAGES_AT(nranks) (EMULATED_NOTICES_AT(nranks) + EMULATED_TEAMS * OH_NOTICES)

#endif
