/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers that ranks bring, each of its own size and kind, so that all ranks' GPUs reach them.
 *
 *   device_buffer.[ch]  what a buffer is made of, and how its memory travels
 *   device_maps.[ch]    memory of peers as this rank has opened or mapped it: once, for all buffers in it
 *   device_share.[ch]   the exchange
 *
 * Memory of cuMemAlloc travels as an IPC handle between processes, and by its address in one; VMM memory, whatever
 * number of mappings the buffer lies in, as a descriptor of each mapping, which every rank maps for its own GPU. A
 * buffer's memory stays its owner's, who must not free it before every rank has unshared it.
 */
#ifndef OH_ARENA_DEVICE_SHARE_H
#define OH_ARENA_DEVICE_SHARE_H

#include "arena/device_maps.h"

typedef struct oh_device_shared {
    int nranks;
    bool direct;                /* all ranks' GPUs reach all buffers */
    char reason[OH_ERROR_TEXT]; /* not direct: which rank it is, and why */
    CUdeviceptr
        base[ONEHOP_MAX_RANKS]; /* rank r's buffer as this rank's GPU sees it; not direct: own alone, others 0 */
    size_t bytes[ONEHOP_MAX_RANKS];

    oh_device_map_t *map[ONEHOP_MAX_RANKS]; /* what unshare leaves */
} oh_device_shared_t;

/*
 * Collective: fails on all ranks or on none, but for a rank that the others cannot hear; afterwards the ranks are in
 * step unless they lost touch. This rank's GPU holds [ptr, ptr + bytes); the primary context of the maps' device is
 * current. Addresses keep the alignment of the buffer, up to 16 bytes. Memory that cannot travel, and what the driver
 * refuses on its way, is no failure: the result is not direct then, on all ranks. INVALID_ARGUMENT: a rank's buffer is
 * no memory of its GPU, or longer than the memory. On failure *shared is all zeros.
 */
onehop_result_t oh_device_share(oh_device_maps_t *maps, void *ptr, size_t bytes, const oh_patience_t *patience,
                                oh_device_shared_t *shared);

/* No kernel of this rank uses the buffers any more. Waits for nobody. Nothing to do for zeros. */
void oh_device_unshare(oh_device_maps_t *maps, oh_device_shared_t *shared);

#endif
