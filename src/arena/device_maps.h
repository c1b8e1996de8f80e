/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of peers as this rank has opened or mapped it: once, however many buffers lie in it. What one rank does alone;
 * device_share.c does the exchanges. The device's context is current. One thread at a time.
 */
#ifndef OH_ARENA_DEVICE_MAPS_H
#define OH_ARENA_DEVICE_MAPS_H

#include <stdbool.h>

#include "arena/device_buffer.h"
#include "bootstrap/bootstrap.h"

/* An allocation of a peer, or mappings side by side. */
typedef struct oh_device_map {
    struct oh_device_map *next;
    int users;
    CUdeviceptr base; /* 0: not opened, nothing reserved */
    size_t reserved;  /* PIECES: bytes at base, */
    size_t filled;    /* with those of pieces that are placed, */
    size_t placed;    /* so many pieces */

    /* What it is. */
    oh_device_kind_t kind;
    int rank;                   /* whose */
    uint64_t id;                /* PLAIN: of the allocation, as the peer knows it */
    CUipcMemHandle handle;      /* PLAIN */
    uint64_t address;           /* PIECES: of the first, as the peer sees it */
    size_t piece_count;         /* PIECES */
    oh_device_piece_t pieces[]; /* PIECES */
} oh_device_map_t;

typedef struct oh_device_maps {
    const oh_cuda_t *cuda;
    CUdevice device;
    oh_bootstrap_t *bootstrap;
    oh_device_map_t *first;
} oh_device_maps_t;

void oh_device_maps_open(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap, oh_device_maps_t *maps);

/* Gives back all that is left. Never waits for peers. */
void oh_device_maps_close(oh_device_maps_t *maps);

/* A map of nothing yet: to be described, and then joined or freed. NULL: out of memory. */
oh_device_map_t *oh_device_map_new(oh_device_kind_t kind, int rank, size_t piece_count);

/* One more user of this memory, by the map that is in use already, in which case `map` is freed, or else by `map`. */
oh_device_map_t *oh_device_maps_join(oh_device_maps_t *maps, oh_device_map_t *map);

/* The last user closes it. Nothing to do for NULL. */
void oh_device_maps_leave(oh_device_maps_t *maps, oh_device_map_t *map);

/* Whether memory is still to be had, by open or by place. */
bool oh_device_map_lacks(const oh_device_map_t *map);

/* PLAIN that lacks its memory. */
onehop_result_t oh_device_maps_open_handle(const oh_device_maps_t *maps, oh_device_map_t *map);

/* PIECES: the next one that it lacks, of a descriptor that stays the caller's. With the last, all become accessible. */
onehop_result_t oh_device_maps_place(const oh_device_maps_t *maps, oh_device_map_t *map, int fd);

#endif
