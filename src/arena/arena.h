/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symmetric memory: every rank gives one segment of the same size, every rank sees all of them.
 *
 *   layout.[ch]   what a segment holds, and where
 *   fault.[ch]    the part of it that tells all ranks of a fault
 *   memory.[ch]   shared memory by descriptor: made, mapped, and found behind a caller's pointer
 *   arena.c       exchanges the descriptors
 */
#ifndef OH_ARENA_ARENA_H
#define OH_ARENA_ARENA_H

#include "arena/layout.h"
#include "bootstrap/bootstrap.h"

typedef struct oh_arena {
    int nranks;
    size_t bytes;                          /* of each segment */
    bool shared;                           /* ranks of one process: a segment is mapped once for all */
    unsigned char *base[ONEHOP_MAX_RANKS]; /* rank r's segment, mapped here */
} oh_arena_t;

/*
 * Collective. Segments begin zeroed. All ranks pass the same bytes. A child made by fork does not inherit the mappings,
 * and must not call oh_arena_close.
 */
onehop_result_t oh_arena_open(oh_bootstrap_t *bootstrap, size_t bytes, const oh_patience_t *patience,
                              oh_arena_t *arena);
void oh_arena_close(oh_arena_t *arena);

#endif
