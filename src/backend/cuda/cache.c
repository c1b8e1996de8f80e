/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/cuda/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.h"

enum { FORMAT = 1, ENTRY_MAX = 64 << 20, NAME = 64, PATH = 4096 };

/* What an entry begins with; the payload follows. All in the machine's own byte order: a cache is not moved. */
typedef struct header {
    char magic[8];
    uint32_t format;
    uint32_t compiler;
    oh_cache_key_t key;
    uint64_t bytes;    /* of the payload */
    uint64_t checksum; /* of the header with a checksum of 0, and the payload */
} header_t;

static const char magic[8] = {'o', 'n', 'e', 'h', 'o', 'p', 'k', '\n'};

/* ---- the directory ---- */

static void make_directories(const char *directory) {
    char path[PATH];
    size_t length = strlen(directory);
    if (length >= sizeof path) return;
    memcpy(path, directory, length + 1);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    mkdir(path, 0700);
}

/* Ours alone to write: whoever else may write decides what runs on our GPU. */
static bool trusted(const struct stat *status) {
    return status->st_uid == geteuid() && (status->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

void oh_cache_open(oh_cache_t *cache, const char *directory) {
    cache->directory = -1;
    if (directory == NULL || directory[0] == '\0') return;
    make_directories(directory);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        oh_log("kernels are not kept: cannot open the directory %s: %m", directory);
    } else if (!trusted(&status)) {
        oh_log("kernels are not kept: user %d is not the only one who may write to %s", (int)geteuid(), directory);
    } else {
        cache->directory = fd;
        return;
    }
    if (fd >= 0) close(fd);
}

void oh_cache_close(oh_cache_t *cache) {
    if (cache->directory >= 0) close(cache->directory);
    cache->directory = -1;
}

/* ---- names and checks ---- */

oh_cache_key_t oh_cache_key(const char *const *parts, size_t count) {
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    for (size_t i = 0; i < count; i++) XXH3_128bits_update(&state, parts[i], strlen(parts[i]) + 1);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
    oh_cache_key_t key;
    memcpy(key.bytes, canonical.digest, sizeof key.bytes);
    return key;
}

static void name_of(const oh_cache_key_t *key, char *out) {
    for (size_t i = 0; i < sizeof key->bytes; i++) snprintf(out + 2 * i, 3, "%02x", key->bytes[i]);
    strcpy(out + 2 * sizeof key->bytes, ".cubin");
}

static uint64_t checksum(header_t header, const void *payload) {
    header.checksum = 0;
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, &header, sizeof header);
    XXH3_64bits_update(&state, payload, header.bytes);
    return XXH3_64bits_digest(&state);
}

/* ---- reading ---- */

static bool read_all(int fd, void *out, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got = read(fd, (char *)out + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        done += (size_t)got;
    }
    return true;
}

static bool read_header(int fd, const oh_cache_key_t *key, header_t *header) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && trusted(&status) &&
           read_all(fd, header, sizeof *header) && memcmp(header->magic, magic, sizeof magic) == 0 &&
           header->format == FORMAT && memcmp(&header->key, key, sizeof *key) == 0 && header->bytes <= ENTRY_MAX &&
           (uint64_t)status.st_size == sizeof *header + header->bytes;
}

static bool read_entry(int fd, const oh_cache_key_t *key, void **payload, size_t *bytes, int *compiler) {
    header_t header;
    if (!read_header(fd, key, &header)) return false;
    void *read = malloc(header.bytes + 1);
    if (read == NULL) return false;
    if (!read_all(fd, read, header.bytes) || checksum(header, read) != header.checksum) {
        free(read);
        return false;
    }
    *payload = read;
    *bytes = header.bytes;
    *compiler = (int)header.compiler;
    return true;
}

bool oh_cache_load(const oh_cache_t *cache, const oh_cache_key_t *key, void **payload, size_t *bytes, int *compiler) {
    if (cache->directory < 0) return false;
    char name[NAME];
    name_of(key, name);
    /* Not to be held up by a pipe that somebody put there. */
    int fd = openat(cache->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return false;
    bool loaded = read_entry(fd, key, payload, bytes, compiler);
    close(fd);
    if (!loaded) oh_log("the kept kernel %s is damaged, and will be compiled again", name);
    return loaded;
}

/* ---- writing ---- */

static bool write_all(int fd, const void *from, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t put = write(fd, (const char *)from + done, bytes - done);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        done += (size_t)put;
    }
    return true;
}

/* A write beyond the limit would not only fail, but raise SIGXFSZ, which ends the process. */
static bool within_limit(size_t bytes) {
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || bytes <= limit.rlim_cur;
}

static bool fill(int fd, const header_t *header, const void *payload) {
    bool written = write_all(fd, header, sizeof *header) && write_all(fd, payload, header->bytes);
    /* Some file systems find out at the end that there was no room. */
    return close(fd) == 0 && written;
}

static bool publish(const oh_cache_t *cache, const header_t *header, const void *payload) {
    uint64_t random;
    char temporary[NAME], name[NAME];
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random) return false;
    snprintf(temporary, sizeof temporary, ".%016llx.tmp", (unsigned long long)random);
    name_of(&header->key, name);
    int fd = openat(cache->directory, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    if (fill(fd, header, payload) && renameat(cache->directory, temporary, cache->directory, name) == 0) return true;
    int error = errno;
    unlinkat(cache->directory, temporary, 0);
    errno = error;
    return false;
}

void oh_cache_store(const oh_cache_t *cache, const oh_cache_key_t *key, const void *payload, size_t bytes,
                    int compiler) {
    if (cache->directory < 0 || bytes > ENTRY_MAX || !within_limit(sizeof(header_t) + bytes)) return;
    header_t header = {.format = FORMAT, .compiler = (uint32_t)compiler, .key = *key, .bytes = bytes};
    memcpy(header.magic, magic, sizeof magic);
    header.checksum = checksum(header, payload);
    if (!publish(cache, &header, payload)) oh_log("a compiled kernel is not kept: %m");
}
