/* SPDX-License-Identifier: Apache-2.0 */
/* Who reaches whom, and how. On the host: which processors the ranks share, and how far apart those are. */
#ifndef OH_TOPOLOGY_TOPOLOGY_H
#define OH_TOPOLOGY_TOPOLOGY_H

#include "bootstrap/bootstrap.h"

/* How far the ranks' processors are from one another, as the selector cares to know. All ranks hold the same value. */
typedef enum oh_placement {
    OH_NEAR,           /* caches close by: a peer's fresh data come almost as fast as one's own */
    OH_FAR,            /* a peer's data come slowly: fewer hand-overs beat less reading */
    OH_OVERSUBSCRIBED, /* ranks share processors: a hand-over costs a change of process */
    OH_PLACEMENTS
} oh_placement_t;

/* What joins GPUs. */
typedef enum oh_links { OH_PCIE, OH_NVLINK, OH_LINKS } oh_links_t;

typedef struct oh_topology {
    int cpus;         /* processors that the ranks together may run on */
    bool crowded;     /* fewer than ranks: they share processors whatever is measured */
    double signal_ns; /* one-way signal, as last measured by all; 0: not measured */
    oh_placement_t placement;
} oh_topology_t;

/* A pure function of the cards, so that all ranks agree; placement is a guess until oh_topology_measured. */
void oh_topology_from_cards(const oh_bootstrap_t *bootstrap, oh_topology_t *out);

/* Takes the signal time that all ranks agreed on. */
void oh_topology_measured(oh_topology_t *topology, double signal_ns);

/* NULL for a value that is none. */
const char *oh_placement_name(oh_placement_t placement);
const char *oh_links_name(oh_links_t links);

/* How many processors a rank may run on, and the NUMA node they belong to (-1: several, or unknown). */
int oh_topology_cpus(const oh_card_t *card);
int oh_topology_numa_node(const oh_card_t *card);

#endif
