/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers that the peers may read and write directly. Registration is collective, so all ranks number their buffers
 * alike: registration i on one rank belongs to registration i on every other.
 */
#ifndef OH_BACKEND_HOST_REGISTRY_H
#define OH_BACKEND_HOST_REGISTRY_H

#include "arena/memory.h"
#include "bootstrap/bootstrap.h"

typedef struct oh_registration {
    unsigned char *ptr; /* this rank's buffer; NULL: the entry is free */
    size_t bytes;
    struct {
        unsigned char *ptr; /* rank r's buffer, as mapped here; this rank's own at its index */
        void *base;         /* what to unmap; NULL for this rank's own */
        size_t length;
    } of[ONEHOP_MAX_RANKS];
} oh_registration_t;

/* Memory that onehop_alloc gave. */
typedef struct oh_allocation {
    unsigned char *ptr; /* NULL: the entry is free */
    size_t bytes;
    int fd; /* kept open for registrations to come */
} oh_allocation_t;

typedef struct oh_registry {
    oh_registration_t **entries; /* each in memory of its own: a large array need not move */
    size_t count, capacity;
    size_t last_hit; /* where the last look-up succeeded: programs use few buffers in turn */
    oh_allocation_t *allocations;
    size_t allocation_count;
} oh_registry_t;

/* Where a buffer lies: the number of a registration, and the offset in it. */
typedef struct oh_place {
    uint32_t registration;
    uint64_t offset;
} oh_place_t;

onehop_result_t oh_registry_alloc(oh_registry_t *registry, size_t bytes, void **ptr);
onehop_result_t oh_registry_free(oh_registry_t *registry, void *ptr);

/*
 * Collective. A failure that leaves the ranks in step (a buffer that will not do, on any rank) sets *broken to false;
 * any other breaks the communicator.
 */
onehop_result_t oh_registry_add(oh_registry_t *registry, oh_bootstrap_t *bootstrap, const oh_patience_t *patience,
                                void *ptr, size_t bytes, bool *broken);
onehop_result_t oh_registry_remove(oh_registry_t *registry, oh_bootstrap_t *bootstrap, const oh_patience_t *patience,
                                   void *ptr, bool *broken);

/* Whether [ptr, ptr + bytes) lies in one registration, and where. */
bool oh_registry_find(oh_registry_t *registry, const void *ptr, size_t bytes, oh_place_t *place);

/* rank's memory at a place that this rank told us. */
static inline unsigned char *oh_registry_at(const oh_registry_t *registry, int rank, oh_place_t place) {
    return registry->entries[place.registration]->of[rank].ptr + place.offset;
}

void oh_registry_close(oh_registry_t *registry);

#endif
