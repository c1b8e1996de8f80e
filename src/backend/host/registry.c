/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/host/registry.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena/layout.h"
#include "bootstrap/agree.h"

/* ---- memory to give away ---- */

onehop_result_t oh_registry_alloc(oh_registry_t *registry, size_t bytes, void **ptr) {
    size_t index = 0;
    while (index < registry->allocation_count && registry->allocations[index].ptr != NULL) index++;
    if (index == registry->allocation_count) {
        oh_allocation_t *grown = realloc(registry->allocations, (index + 1) * sizeof *grown);
        if (grown == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
        registry->allocations = grown;
        grown[index] = (oh_allocation_t){0};
        registry->allocation_count = index + 1;
    }
    oh_allocation_t *allocation = &registry->allocations[index];
    void *memory;
    OH_TRY(oh_memory_create(bytes, &allocation->fd, &memory));
    allocation->ptr = *ptr = memory;
    allocation->bytes = bytes;
    return ONEHOP_SUCCESS;
}

static void release_allocation(oh_allocation_t *allocation) {
    oh_memory_unmap(allocation->ptr, allocation->bytes);
    close(allocation->fd);
    allocation->ptr = NULL;
}

static bool overlap(const unsigned char *a, size_t a_bytes, const unsigned char *b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/* A registration that shares memory with [ptr, ptr + bytes), or NULL. */
static const oh_registration_t *find_overlap(const oh_registry_t *registry, const void *ptr, size_t bytes) {
    for (size_t i = 0; i < registry->count; i++) {
        const oh_registration_t *e = registry->entries[i];
        if (e->ptr != NULL && overlap(e->ptr, e->bytes, ptr, bytes)) return e;
    }
    return NULL;
}

onehop_result_t oh_registry_free(oh_registry_t *registry, void *ptr) {
    for (size_t i = 0; i < registry->allocation_count; i++) {
        oh_allocation_t *allocation = &registry->allocations[i];
        if (allocation->ptr != ptr) continue;
        const oh_registration_t *user = find_overlap(registry, ptr, allocation->bytes);
        if (user != NULL) {
            return oh_fail(ONEHOP_INVALID_ARGUMENT,
                           "ptr %p holds a registered buffer (%p, %zu bytes): deregister it first", ptr,
                           (void *)user->ptr, user->bytes);
        }
        release_allocation(allocation);
        return ONEHOP_SUCCESS;
    }
    return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p: expected memory from onehop_alloc on this communicator", ptr);
}

/* ---- registration ---- */

/* What a rank says of its buffer. */
typedef struct offer {
    int32_t result; /* this rank's, so far */
    uint64_t bytes;
    uint64_t offset; /* of the buffer in its descriptor */
    char error[256];
} offer_t;

/* All ranks look at all offers: the first bad one is everybody's failure, told in its own words. */
static onehop_result_t judge(const offer_t *offers, int nranks) {
    for (int r = 0; r < nranks; r++) {
        if (offers[r].result != ONEHOP_SUCCESS) {
            return oh_fail((onehop_result_t)offers[r].result, "rank %d: %.255s", r, offers[r].error);
        }
    }
    return ONEHOP_SUCCESS;
}

static void set_result(offer_t *offer, onehop_result_t result) {
    offer->result = (int32_t)result;
    if (result != ONEHOP_SUCCESS) memcpy(offer->error, onehop_last_error(), sizeof offer->error - 1);
}

static onehop_result_t check_own(const oh_registry_t *registry, void *ptr, size_t bytes, oh_memory_origin_t *origin) {
    if (ptr == NULL) return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr is NULL: expected a buffer");
    if (bytes == 0 || bytes > PTRDIFF_MAX) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "bytes is %zu: expected 1 to %td", bytes, PTRDIFF_MAX);
    }
    const oh_registration_t *other = find_overlap(registry, ptr, bytes);
    if (other != NULL) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT, "ptr %p, %zu bytes, overlaps the registered buffer %p, %zu bytes", ptr,
                       bytes, (void *)other->ptr, other->bytes);
    }
    return oh_memory_find(ptr, bytes, origin);
}

static onehop_result_t map_peer(oh_registration_t *e, int r, int fd, const offer_t *offer) {
    size_t inside = (size_t)(offer->offset % OH_PAGE), length = inside + (size_t)offer->bytes;
    void *base;
    OH_TRY(oh_memory_map(fd, (size_t)offer->offset - inside, length, &base));
    e->of[r].base = base;
    e->of[r].length = length;
    e->of[r].ptr = (unsigned char *)base + inside;
    return ONEHOP_SUCCESS;
}

static void unmap_peers(oh_registration_t *e) {
    for (int r = 0; r < ONEHOP_MAX_RANKS; r++) {
        if (e->of[r].base != NULL) oh_memory_unmap(e->of[r].base, e->of[r].length);
    }
}

/* The first free entry, which is the same on all ranks. */
static onehop_result_t reserve(oh_registry_t *registry, size_t *index) {
    size_t i = 0;
    while (i < registry->count && registry->entries[i]->ptr != NULL) i++;
    if (i == registry->count) {
        if (i == registry->capacity) {
            size_t capacity = i == 0 ? 8 : 2 * i;
            oh_registration_t **grown = realloc(registry->entries, capacity * sizeof *grown);
            if (grown == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
            registry->entries = grown;
            registry->capacity = capacity;
        }
        registry->entries[i] = calloc(1, sizeof(oh_registration_t));
        if (registry->entries[i] == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");
        registry->count++;
    }
    *index = i;
    return ONEHOP_SUCCESS;
}

/* Offers this rank's buffer and maps the peers'. The entry counts as free until its ptr is set, at the very end. */
static onehop_result_t exchange(oh_registration_t *e, oh_bootstrap_t *bootstrap, const oh_patience_t *patience,
                                offer_t *offers, offer_t *mine, int own_fd, bool *broken) {
    int rank = oh_bootstrap_rank(bootstrap), nranks = oh_bootstrap_nranks(bootstrap);
    *broken = true;
    OH_TRY(oh_bootstrap_allgather(bootstrap, "register", mine, offers, sizeof *mine, patience));
    *broken = false;
    OH_TRY(judge(offers, nranks));

    int fds[ONEHOP_MAX_RANKS];
    *broken = true;
    OH_TRY(oh_bootstrap_exchange_fd(bootstrap, "register", own_fd, fds, patience));
    onehop_result_t result = ONEHOP_SUCCESS;
    for (int r = 0; r < nranks; r++) {
        if (r == rank) continue;
        if (result == ONEHOP_SUCCESS) result = map_peer(e, r, fds[r], &offers[r]);
        close(fds[r]);
    }
    set_result(mine, result);
    OH_TRY(oh_bootstrap_allgather(bootstrap, "registered", mine, offers, sizeof *mine, patience));
    *broken = false;
    return judge(offers, nranks);
}

onehop_result_t oh_registry_add(oh_registry_t *registry, oh_bootstrap_t *bootstrap, const oh_patience_t *patience,
                                void *ptr, size_t bytes, bool *broken) {
    int rank = oh_bootstrap_rank(bootstrap);
    size_t index = 0;
    *broken = true;
    OH_TRY(reserve(registry, &index));
    offer_t *offers = calloc((size_t)oh_bootstrap_nranks(bootstrap), sizeof *offers);
    if (offers == NULL) return oh_fail(ONEHOP_OUT_OF_MEMORY, "out of memory");

    oh_registration_t *e = registry->entries[index];
    *e = (oh_registration_t){0};
    oh_memory_origin_t origin = {.fd = -1};
    offer_t mine = {0};
    set_result(&mine, check_own(registry, ptr, bytes, &origin));
    mine.bytes = bytes;
    mine.offset = origin.offset;
    onehop_result_t result = exchange(e, bootstrap, patience, offers, &mine, origin.fd, broken);
    if (origin.fd >= 0) close(origin.fd);
    free(offers);
    if (result != ONEHOP_SUCCESS) {
        unmap_peers(e);
        return result;
    }
    e->of[rank].ptr = e->ptr = ptr;
    e->bytes = bytes;
    return ONEHOP_SUCCESS;
}

/* The registration that begins at ptr, or registry->count. */
static size_t index_of(const oh_registry_t *registry, const void *ptr) {
    size_t index = 0;
    while (index < registry->count && (ptr == NULL || registry->entries[index]->ptr != ptr)) index++;
    return index;
}

onehop_result_t oh_registry_remove(oh_registry_t *registry, oh_bootstrap_t *bootstrap, const oh_patience_t *patience,
                                   void *ptr, bool *broken) {
    size_t mine = index_of(registry, ptr);
    int64_t number = mine < registry->count ? (int64_t)mine : OH_NO_REGISTRATION;
    OH_TRY(oh_agree_to_deregister(bootstrap, ptr, number, patience, broken));
    unmap_peers(registry->entries[mine]);
    *registry->entries[mine] = (oh_registration_t){0};
    return ONEHOP_SUCCESS;
}

/* ---- look-up, on the fast path ---- */

static bool contains(const oh_registration_t *e, const unsigned char *ptr, size_t bytes) {
    return e->ptr != NULL && ptr >= e->ptr && bytes <= e->bytes && (size_t)(ptr - e->ptr) <= e->bytes - bytes;
}

bool oh_registry_find(oh_registry_t *registry, const void *ptr, size_t bytes, oh_place_t *place) {
    for (size_t n = 0; n < registry->count; n++) {
        size_t i = registry->last_hit + n;
        if (i >= registry->count) i -= registry->count;
        const oh_registration_t *e = registry->entries[i];
        if (!contains(e, ptr, bytes)) continue;
        registry->last_hit = i;
        *place = (oh_place_t){.registration = (uint32_t)i, .offset = (uint64_t)((const unsigned char *)ptr - e->ptr)};
        return true;
    }
    return false;
}

void oh_registry_close(oh_registry_t *registry) {
    for (size_t i = 0; i < registry->count; i++) {
        if (registry->entries[i]->ptr != NULL) unmap_peers(registry->entries[i]);
        free(registry->entries[i]);
    }
    free(registry->entries);
    for (size_t i = 0; i < registry->allocation_count; i++) {
        if (registry->allocations[i].ptr != NULL) release_allocation(&registry->allocations[i]);
    }
    free(registry->allocations);
    *registry = (oh_registry_t){0};
}
