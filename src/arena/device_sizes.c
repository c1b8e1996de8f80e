/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/device_sizes.h"

enum { PACKETS_MIN = 64, PACKETS_MAX = 2048, PACKETS_STEP = 32, PAGE_STEP = 256 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Packets have the larger share: pages serve only what packets do not. */
static size_t packets_share(size_t bytes) { return bytes / 16 * 13; }

oh_device_sizes_t oh_device_sizes_make(size_t workspace_bytes, int nranks, int multiprocessors) {
    size_t room = workspace_bytes - OH_PACKETS_AT, peers = nranks > 1 ? (size_t)nranks - 1 : 1;
    size_t teams = least((size_t)multiprocessors, OH_GPU_TEAMS), packets;
    for (;;) {
        size_t slots = (size_t)OH_RINGS * OH_RING * peers * teams;
        packets = least(packets_share(room) / (slots * OH_PACKET), PACKETS_MAX) / PACKETS_STEP * PACKETS_STEP;
        if (packets >= PACKETS_MIN || teams == 1) break;
        teams /= 2;
    }
    oh_device_sizes_t sizes = {.teams = (int)teams, .slot_packets = (int)packets};
    sizes.packet_bytes = (size_t)OH_RINGS * OH_RING * peers * teams * packets * OH_PACKET;
    sizes.pages_at = OH_PACKETS_AT + sizes.packet_bytes;
    sizes.page_bytes = (workspace_bytes - sizes.pages_at) / teams / PAGE_STEP * PAGE_STEP;
    sizes.total = sizes.pages_at + sizes.page_bytes * teams;
    return sizes;
}
