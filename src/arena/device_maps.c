/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/device_maps.h"

#include <stdlib.h>
#include <string.h>

#include "arena/device_memory.h"

void oh_device_maps_open(const oh_cuda_t *cuda, CUdevice device, oh_bootstrap_t *bootstrap, oh_device_maps_t *maps) {
    *maps = (oh_device_maps_t){.cuda = cuda, .device = device, .bootstrap = bootstrap};
}

oh_device_map_t *oh_device_map_new(oh_device_kind_t kind, int rank, size_t piece_count) {
    oh_device_map_t *map = calloc(1, sizeof *map + piece_count * sizeof map->pieces[0]);
    if (map == NULL) return NULL;
    *map = (oh_device_map_t){.kind = kind, .rank = rank, .piece_count = piece_count};
    return map;
}

/* ---- one for all users ---- */

static bool same_handle(const oh_device_map_t *a, const oh_device_map_t *b) {
    return memcmp(&a->handle, &b->handle, sizeof a->handle) == 0;
}

static bool same_pieces(const oh_device_map_t *a, const oh_device_map_t *b) {
    if (a->address != b->address || a->piece_count != b->piece_count) return false;
    for (size_t i = 0; i < a->piece_count; i++) {
        const oh_device_piece_t *p = &a->pieces[i], *q = &b->pieces[i];
        if (p->id == 0 || p->id != q->id || p->bytes != q->bytes) return false;
    }
    return true;
}

static bool same_memory(const oh_device_map_t *a, const oh_device_map_t *b) {
    if (a->kind != b->kind || a->rank != b->rank) return false;
    return a->kind == OH_DEVICE_PLAIN ? same_handle(a, b) : same_pieces(a, b);
}

oh_device_map_t *oh_device_maps_join(oh_device_maps_t *maps, oh_device_map_t *map) {
    for (oh_device_map_t *other = maps->first; other != NULL; other = other->next) {
        if (!same_memory(other, map)) continue;
        free(map);
        other->users++;
        return other;
    }
    map->users = 1;
    map->next = maps->first;
    maps->first = map;
    return map;
}

static void close_map(const oh_device_maps_t *maps, oh_device_map_t *map) {
    const oh_cuda_t *cuda = maps->cuda;
    CUdeviceptr at = map->base;
    for (size_t i = 0; i < map->placed; i++) {
        cuda->cuMemUnmap(at, map->pieces[i].bytes);
        at += map->pieces[i].bytes;
    }
    if (map->base != 0 && map->kind == OH_DEVICE_PLAIN) cuda->cuIpcCloseMemHandle(map->base);
    if (map->base != 0 && map->kind == OH_DEVICE_PIECES) cuda->cuMemAddressFree(map->base, map->reserved);
    free(map);
}

void oh_device_maps_leave(oh_device_maps_t *maps, oh_device_map_t *map) {
    if (map == NULL || --map->users > 0) return;
    oh_device_map_t **link = &maps->first;
    while (*link != map) link = &(*link)->next;
    *link = map->next;
    close_map(maps, map);
}

void oh_device_maps_close(oh_device_maps_t *maps) {
    while (maps->first != NULL) {
        oh_device_map_t *map = maps->first;
        maps->first = map->next;
        close_map(maps, map);
    }
    *maps = (oh_device_maps_t){0};
}

/* ---- what one user does for all ---- */

bool oh_device_map_lacks(const oh_device_map_t *map) {
    return map->kind == OH_DEVICE_PLAIN ? map->base == 0 : map->placed < map->piece_count;
}

onehop_result_t oh_device_maps_open_handle(const oh_device_maps_t *maps, oh_device_map_t *map) {
    const oh_device_handle_t whole = {.handle = map->handle};
    CUdeviceptr begin;
    return oh_device_ipc_open(maps->cuda, &whole, &map->base, &begin);
}

/* All addresses at once, so that the pieces lie side by side. */
static onehop_result_t reserve(const oh_device_maps_t *maps, oh_device_map_t *map) {
    size_t bytes = 0;
    for (size_t i = 0; i < map->piece_count; i++) bytes += map->pieces[i].bytes;
    OH_TRY(oh_device_vmm_reserve(maps->cuda, bytes, &map->base));
    map->reserved = bytes;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_device_maps_place(const oh_device_maps_t *maps, oh_device_map_t *map, int fd) {
    if (map->base == 0) OH_TRY(reserve(maps, map));
    size_t bytes = map->pieces[map->placed].bytes;
    OH_TRY(oh_device_vmm_place(maps->cuda, fd, bytes, map->base + map->filled));
    map->placed++;
    map->filled += bytes;
    if (map->placed < map->piece_count) return ONEHOP_SUCCESS;
    return oh_device_vmm_allow(maps->cuda, maps->device, map->base, map->reserved);
}
