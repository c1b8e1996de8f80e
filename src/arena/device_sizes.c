/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/device_sizes.h"

enum { PACKETS_MIN = 64, PACKETS_MAX = 512, PACKETS_STEP = 32, RING_MIN = 4, RING_MAX = 8, PAGE_STEP = 256 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Packets have the larger share: pages serve only what packets do not. */
static size_t packets_share(size_t bytes) { return bytes / 16 * 13; }

/* Bytes of the mailboxes with one packet to a team and slot. */
static size_t packets_each(size_t ring, size_t peers, size_t teams) {
    return (size_t)OH_RINGS * ring * peers * teams * OH_PACKET;
}

oh_device_sizes_t oh_device_sizes_make(size_t workspace_bytes, int nranks, int multiprocessors) {
    size_t room = packets_share(workspace_bytes - OH_PACKETS_AT), peers = nranks > 1 ? (size_t)nranks - 1 : 1;
    size_t teams = least((size_t)multiprocessors, OH_GPU_TEAMS);
    while (teams > 1 && packets_each(RING_MIN, peers, teams) * PACKETS_MIN > room) teams /= 2;
    size_t ring = packets_each(RING_MAX, peers, teams) * PACKETS_MAX <= room ? RING_MAX : RING_MIN;
    size_t packets = room / packets_each(ring, peers, teams) / PACKETS_STEP * PACKETS_STEP;
    oh_device_sizes_t sizes = {.teams = (int)teams, .ring = (int)ring, .packets = (int)least(packets, PACKETS_MAX)};
    sizes.packet_bytes = packets_each(ring, peers, teams) * (size_t)sizes.packets;
    sizes.pages_at = OH_PACKETS_AT + sizes.packet_bytes + teams * OH_NOTICES;
    sizes.page_bytes = (workspace_bytes - sizes.pages_at) / teams / PAGE_STEP * PAGE_STEP;
    sizes.total = sizes.pages_at + sizes.page_bytes * teams;
    return sizes;
}
