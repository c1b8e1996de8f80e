/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* What the machine can give before the kernel ends processes to find more; SIZE_MAX where it does not say. */
static size_t available_bytes(void) {
    FILE *meminfo = fopen("/proc/meminfo", "re");
    if (meminfo == NULL) return SIZE_MAX;
    char line[128];
    size_t kib, sum = 0;
    while (fgets(line, sizeof line, meminfo) != NULL) {
        if (sscanf(line, "MemAvailable: %zu", &kib) == 1 || sscanf(line, "SwapFree: %zu", &kib) == 1) sum += kib;
    }
    fclose(meminfo);
    return sum == 0 ? SIZE_MAX : sum * 1024;
}

/*
 * In small pieces: on older kernels a signal undoes the whole call, which might then never end where signals come
 * often. And with a look, now and then, at what is left: other ranks take memory at the same time.
 */
static int allocate(int fd, size_t bytes) {
    const size_t piece = 256 * 1024, look_every = 256 * piece;
    for (size_t done = 0; done < bytes;) {
        if (done % look_every == 0 && bytes - done > available_bytes()) return ENOMEM;
        size_t length = bytes - done < piece ? bytes - done : piece;
        int error = posix_fallocate(fd, (off_t)done, (off_t)length);
        if (error == 0) done += length;
        if (error != 0 && error != EINTR) return error;
    }
    return 0;
}

onehop_result_t oh_memory_create(size_t bytes, int *out_fd, void **out) {
    int fd = memfd_create("onehop", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return oh_fail_errno("memfd_create");
    int error = allocate(fd, bytes);
    if (error != 0) {
        close(fd);
        errno = error;
        return oh_fail_errno("cannot allocate %zu bytes of shared memory", bytes);
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        onehop_result_t result = oh_fail_errno("cannot seal shared memory");
        close(fd);
        return result;
    }
    onehop_result_t result = oh_memory_map(fd, 0, bytes, out);
    if (result != ONEHOP_SUCCESS) {
        close(fd);
        return result;
    }
    *out_fd = fd;
    return ONEHOP_SUCCESS;
}

onehop_result_t oh_memory_map(int fd, size_t offset, size_t bytes, void **out) {
    void *ptr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (ptr == MAP_FAILED) return oh_fail_errno("cannot map %zu bytes of shared memory", bytes);
    *out = ptr;
    return ONEHOP_SUCCESS;
}

void oh_memory_unmap(void *ptr, size_t bytes) { munmap(ptr, bytes); }

/* One line of /proc/self/maps, as far as it matters here. */
typedef struct mapping {
    uintptr_t begin, end;
    char rights[5];
    uint64_t offset;
    unsigned major, minor;
    uint64_t inode;
} mapping_t;

static bool read_mapping(FILE *maps, mapping_t *m) {
    char line[512];
    if (fgets(line, sizeof line, maps) == NULL) return false;
    /* A longer line is a longer path, which does not matter. */
    for (size_t length = strlen(line); line[length - 1] != '\n';) {
        int c = fgetc(maps);
        if (c == EOF || c == '\n') break;
    }
    unsigned long begin, end, offset, inode;
    int fields =
        sscanf(line, "%lx-%lx %4s %lx %x:%x %lu", &begin, &end, m->rights, &offset, &m->major, &m->minor, &inode);
    m->begin = begin;
    m->end = end;
    m->offset = offset;
    m->inode = inode;
    return fields == 7;
}

/* The mapping of all of [begin, end), which the kernel may show in several lines that follow one another. */
static onehop_result_t find_mapping(uintptr_t begin, uintptr_t end, mapping_t *out) {
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) return oh_fail_errno("cannot read /proc/self/maps");
    bool found = false;
    mapping_t m;
    while (read_mapping(maps, &m)) {
        if (!found && m.begin <= begin && begin < m.end) {
            *out = m;
            found = true;
        } else if (found && out->end < end) {
            bool continues = m.begin == out->end && m.inode == out->inode && m.major == out->major &&
                             m.minor == out->minor && strcmp(m.rights, out->rights) == 0 &&
                             m.offset == out->offset + (m.begin - out->begin);
            if (!continues) break;
            out->end = m.end;
        }
    }
    fclose(maps);
    if (!found || out->end < end) {
        return oh_fail(ONEHOP_INVALID_ARGUMENT,
                       "the buffer at %p, %zu bytes, does not lie in one mapping of this process", (void *)begin,
                       (size_t)(end - begin));
    }
    return ONEHOP_SUCCESS;
}

static bool is_file_of(const mapping_t *m, size_t file_end, const struct stat *status) {
    return S_ISREG(status->st_mode) && status->st_ino == m->inode && major(status->st_dev) == m->major &&
           minor(status->st_dev) == m->minor && (size_t)status->st_size >= file_end;
}

/*
 * The mapping's file, opened anew through a descriptor of this process; -1 if there is none. Other threads may close
 * theirs meanwhile: so they are looked at by name, and what was opened is looked at again.
 */
static int open_file_of(const mapping_t *m, size_t file_end) {
    DIR *directory = opendir("/proc/self/fd");
    if (directory == NULL) return -1;
    int fd = -1;
    for (struct dirent *entry; fd < 0 && (entry = readdir(directory)) != NULL;) {
        struct stat status;
        if (fstatat(dirfd(directory), entry->d_name, &status, 0) != 0 || !is_file_of(m, file_end, &status)) continue;
        fd = openat(dirfd(directory), entry->d_name, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && (fstat(fd, &status) != 0 || !is_file_of(m, file_end, &status))) {
            close(fd);
            fd = -1;
        }
    }
    closedir(directory);
    return fd;
}

onehop_result_t oh_memory_find(const void *ptr, size_t bytes, oh_memory_origin_t *out) {
    uintptr_t begin = (uintptr_t)ptr;
    mapping_t m;
    OH_TRY(find_mapping(begin, begin + bytes, &m));
    if (strcmp(m.rights, "rw-s") != 0 && strcmp(m.rights, "rwxs") != 0) {
        return oh_fail(ONEHOP_UNSUPPORTED,
                       "the buffer at %p is mapped \"%s\": expected shared memory, readable and writable, from "
                       "onehop_alloc or a memfd mapped with MAP_SHARED",
                       ptr, m.rights);
    }
    out->offset = (size_t)(m.offset + (begin - m.begin));
    out->fd = open_file_of(&m, out->offset + bytes);
    if (out->fd < 0) {
        return oh_fail(
            ONEHOP_UNSUPPORTED,
            "no descriptor of this process is open, for reading and writing and as long as the buffer, on the "
            "shared memory at %p: keep the memfd open until onehop_register has returned",
            ptr);
    }
    return ONEHOP_SUCCESS;
}
