/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts are read from the kernel (/sys) rather than through hwloc: two are needed, and hwloc's static library pulls in
 * libudev, while libonehop needs nothing but libc.
 */
#include "topology/topology.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Signals quicker than the first come from a core close by, up to the second from one far away (measured: near 25-60
 * ns, far 140-250 ns). Slower ones are no signals at all, but the time until the scheduler lets the other rank run.
 */
static const double near_ns = 110, far_ns = 1000;

const char *oh_placement_name(oh_placement_t placement) {
    static const char *const name[OH_PLACEMENTS] = {"near", "far", "oversubscribed"};
    return (int)placement >= 0 && placement < OH_PLACEMENTS ? name[placement] : NULL;
}

const char *oh_links_name(oh_links_t links) {
    static const char *const name[OH_LINKS] = {"pcie", "nvlink"};
    return (int)links >= 0 && links < OH_LINKS ? name[links] : NULL;
}

static int count_bits(const unsigned char *bits, size_t bytes) {
    int count = 0;
    for (size_t i = 0; i < bytes; i++) count += __builtin_popcount(bits[i]);
    return count;
}

int oh_topology_cpus(const oh_card_t *card) { return count_bits(card->cpus, sizeof card->cpus); }

void oh_topology_from_cards(const oh_bootstrap_t *bootstrap, oh_topology_t *out) {
    int nranks = oh_bootstrap_nranks(bootstrap);
    unsigned char all[sizeof((oh_card_t *)0)->cpus] = {0};
    for (int r = 0; r < nranks; r++) {
        const oh_card_t *card = oh_bootstrap_card(bootstrap, r);
        for (size_t i = 0; i < sizeof all; i++) all[i] |= card->cpus[i];
    }
    int cpus = count_bits(all, sizeof all);
    bool crowded = nranks > cpus;
    *out = (oh_topology_t){.cpus = cpus, .crowded = crowded, .placement = crowded ? OH_OVERSUBSCRIBED : OH_NEAR};
}

void oh_topology_measured(oh_topology_t *topology, double signal_ns) {
    topology->signal_ns = signal_ns;
    topology->placement = signal_ns < near_ns ? OH_NEAR : signal_ns < far_ns ? OH_FAR : OH_OVERSUBSCRIBED;
}

/* Sets the bits of a list such as "0-3,8" in `bits`. */
static void read_list(const char *list, unsigned char *bits, size_t bytes) {
    for (const char *at = list; *at != '\0' && *at != '\n';) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (end == at) return;
        if (*end == '-') last = strtoul(end + 1, &end, 10);
        for (unsigned long cpu = first; cpu <= last && cpu / 8 < bytes; cpu++) {
            bits[cpu / 8] = (unsigned char)(bits[cpu / 8] | 1u << cpu % 8);
        }
        at = *end == ',' ? end + 1 : end;
    }
}

static bool node_has(int node, const unsigned char *cpus, size_t bytes) {
    char path[64], line[4096];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    bool has = false;
    if (fgets(line, sizeof line, file) != NULL) {
        unsigned char bits[sizeof((oh_card_t *)0)->cpus] = {0};
        read_list(line, bits, sizeof bits);
        for (size_t i = 0; i < bytes; i++) has = has || (bits[i] & cpus[i]) != 0;
    }
    fclose(file);
    return has;
}

int oh_topology_numa_node(const oh_card_t *card) {
    DIR *nodes = opendir("/sys/devices/system/node");
    if (nodes == NULL) return -1;
    int found = -1, count = 0;
    for (struct dirent *entry; (entry = readdir(nodes)) != NULL;) {
        int node;
        if (sscanf(entry->d_name, "node%d", &node) != 1 || !node_has(node, card->cpus, sizeof card->cpus)) continue;
        found = node;
        count++;
    }
    closedir(nodes);
    return count == 1 ? found : -1;
}
