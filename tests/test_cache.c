/* SPDX-License-Identifier: Apache-2.0 */
/* The disk cache: what was stored comes back, whatever else lies there does not, and no failure is one of the caller's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/cuda/cache.h"

#include <cmocka.h>

enum { PAYLOAD = 100, COMPILER = 12080, PATH = 256, PROCESSES = 8, ROUNDS = 200, KEYS = 4, OTHER_USER = 65534 };

typedef struct place {
    char path[PATH];
    oh_cache_t cache;
} place_t;

/* ---- writes that fail ---- */

static struct {
    bool active;
    size_t room;    /* the disk is full after so many bytes */
    size_t at_once; /* most bytes of one write; 0: any number */
    int interrupt;  /* every so many writes are interrupted; 0: none */
    int writes;
} disk;

ssize_t __real_write(int fd, const void *from, size_t bytes);
ssize_t __wrap_write(int fd, const void *from, size_t bytes);
ssize_t __wrap_write(int fd, const void *from, size_t bytes) {
    if (!disk.active) return __real_write(fd, from, bytes);
    if (disk.interrupt > 0 && ++disk.writes % disk.interrupt == 0) {
        errno = EINTR;
        return -1;
    }
    if (disk.room == 0 && bytes > 0) {
        errno = ENOSPC;
        return -1;
    }
    if (disk.at_once > 0 && bytes > disk.at_once) bytes = disk.at_once;
    if (bytes > disk.room) bytes = disk.room;
    disk.room -= bytes;
    return __real_write(fd, from, bytes);
}

/* ---- a directory of its own for every test ---- */

static int set_up(void **state) {
    place_t *place = calloc(1, sizeof *place);
    if (place == NULL) return -1;
    strcpy(place->path, "/tmp/onehop-test-cache-XXXXXX");
    if (mkdtemp(place->path) == NULL) return -1;
    oh_cache_open(&place->cache, place->path);
    *state = place;
    return place->cache.directory < 0 ? -1 : 0;
}

static int tear_down(void **state) {
    place_t *place = *state;
    memset(&disk, 0, sizeof disk);
    oh_cache_close(&place->cache);
    char command[PATH + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", place->path);
    int status = system(command);
    free(place);
    return status;
}

static oh_cache_key_t key_of(const char *name) { return oh_cache_key(&name, 1); }

static void file_of(const place_t *place, const oh_cache_key_t *key, char *out) {
    int used = snprintf(out, PATH, "%.128s/", place->path);
    for (size_t i = 0; i < sizeof key->bytes; i++) {
        used += snprintf(out + used, PATH - (size_t)used, "%02x", key->bytes[i]);
    }
    snprintf(out + used, PATH - (size_t)used, ".cubin");
}

static int files_in(const char *path) {
    DIR *directory = opendir(path);
    assert_non_null(directory);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    closedir(directory);
    return count;
}

static void fill(unsigned char *payload, const oh_cache_key_t *key) {
    for (size_t i = 0; i < PAYLOAD; i++) payload[i] = (unsigned char)(key->bytes[i % sizeof key->bytes] + i);
}

static void store(const oh_cache_t *cache, const oh_cache_key_t *key) {
    unsigned char payload[PAYLOAD];
    fill(payload, key);
    oh_cache_store(cache, key, payload, sizeof payload, COMPILER);
}

/* Whether the entry is there; if it is, it must be right. */
static bool present(const oh_cache_t *cache, const oh_cache_key_t *key) {
    unsigned char expected[PAYLOAD];
    void *payload;
    size_t bytes;
    int compiler;
    if (!oh_cache_load(cache, key, &payload, &bytes, &compiler)) return false;
    fill(expected, key);
    assert_int_equal(bytes, sizeof expected);
    assert_memory_equal(payload, expected, sizeof expected);
    assert_int_equal(compiler, COMPILER);
    free(payload);
    return true;
}

/* ---- what it is for ---- */

static void test_keys(void **state) {
    (void)state;
    static const char *const lists[][3] = {{"", "", ""},   {"ab", "", ""}, {"", "ab", ""}, {"", "", "ab"},
                                           {"a", "b", ""}, {"b", "a", ""}, {"a", "", "b"}, {"abc", "", ""}};
    enum { LISTS = sizeof lists / sizeof *lists };
    for (size_t i = 0; i < LISTS; i++) {
        oh_cache_key_t key = oh_cache_key(lists[i], 3), again = oh_cache_key(lists[i], 3);
        assert_memory_equal(&key, &again, sizeof key);
        for (size_t j = 0; j < LISTS; j++) {
            oh_cache_key_t other = oh_cache_key(lists[j], 3);
            if (i != j) assert_memory_not_equal(&key, &other, sizeof key);
        }
        oh_cache_key_t shorter = oh_cache_key(lists[i], 2);
        assert_memory_not_equal(&key, &shorter, sizeof key);
    }
}

static void test_store_and_load(void **state) {
    place_t *place = *state;
    oh_cache_key_t a = key_of("a"), b = key_of("b");
    assert_false(present(&place->cache, &a));
    store(&place->cache, &a);
    assert_true(present(&place->cache, &a));
    assert_false(present(&place->cache, &b));
    store(&place->cache, &b);
    store(&place->cache, &a);
    assert_true(present(&place->cache, &a) && present(&place->cache, &b));
    assert_int_equal(files_in(place->path), 2);

    oh_cache_t again;
    oh_cache_open(&again, place->path);
    assert_true(present(&again, &a));
    oh_cache_close(&again);
}

static void test_nothing_stored(void **state) {
    place_t *place = *state;
    oh_cache_key_t key = key_of("empty");
    oh_cache_store(&place->cache, &key, "", 0, COMPILER);
    void *payload;
    size_t bytes = 1;
    int compiler;
    assert_true(oh_cache_load(&place->cache, &key, &payload, &bytes, &compiler));
    assert_int_equal(bytes, 0);
    free(payload);
}

/* ---- directories ---- */

static void expect_none(const char *directory) {
    oh_cache_t cache;
    oh_cache_key_t key = key_of("none");
    oh_cache_open(&cache, directory);
    if (cache.directory >= 0) fail_msg("%s was taken for a cache", directory);
    store(&cache, &key);
    assert_false(present(&cache, &key));
    oh_cache_close(&cache);
}

static void test_no_directory(void **state) {
    place_t *place = *state;
    char path[2 * PATH], far[8192];
    expect_none(NULL);
    expect_none("");
    snprintf(path, sizeof path, "%s/file", place->path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    expect_none(path);
    strcat(path, "/below");
    expect_none(path);
    memset(far, 'x', sizeof far - 1);
    far[0] = '/', far[sizeof far - 1] = '\0';
    expect_none(far);
}

static void test_new_directory(void **state) {
    place_t *place = *state;
    char path[2 * PATH];
    snprintf(path, sizeof path, "%s/not/there/yet", place->path);
    oh_cache_t cache;
    oh_cache_open(&cache, path);
    oh_cache_key_t key = key_of("a");
    store(&cache, &key);
    assert_true(present(&cache, &key));
    oh_cache_close(&cache);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
}

/* Runs in a process of its own, which must end by itself. */
static void in_child(void (*act)(place_t *), place_t *place) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        act(place);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void require(bool condition) {
    if (!condition) _exit(1);
}

static void test_foreign_directory(void **state) {
    place_t *place = *state;
    oh_cache_close(&place->cache);
    static const mode_t open_to_others[] = {0770, 0707, 0777, 01777};
    for (size_t i = 0; i < sizeof open_to_others / sizeof *open_to_others; i++) {
        assert_int_equal(chmod(place->path, open_to_others[i]), 0);
        expect_none(place->path);
    }
    assert_int_equal(chmod(place->path, 0755), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(place->path, OTHER_USER, 0), 0);
        expect_none(place->path);
    } else {
        expect_none("/usr"); /* root's */
    }
}

static void use_read_only(place_t *place) {
    oh_cache_t cache;
    if (geteuid() == 0) require(setgid(OTHER_USER) == 0 && setuid(OTHER_USER) == 0);
    oh_cache_key_t a = key_of("a"), b = key_of("b");
    oh_cache_open(&cache, place->path);
    require(cache.directory >= 0);
    store(&cache, &a);
    require(chmod(place->path, 0500) == 0);
    store(&cache, &b);
    require(present(&cache, &a) && !present(&cache, &b));
    oh_cache_close(&cache);
    oh_cache_open(&cache, place->path);
    require(present(&cache, &a));
}

static void test_read_only(void **state) {
    place_t *place = *state;
    if (geteuid() == 0) assert_int_equal(chown(place->path, OTHER_USER, OTHER_USER), 0);
    in_child(use_read_only, place);
    assert_int_equal(files_in(place->path), 1);
    assert_int_equal(chmod(place->path, 0700), 0);
}

/* ---- entries that will not do ---- */

static void test_damage(void **state) {
    place_t *place = *state;
    oh_cache_key_t key = key_of("a");
    char file[PATH];
    file_of(place, &key, file);
    store(&place->cache, &key);
    struct stat status;
    assert_int_equal(stat(file, &status), 0);
    for (off_t at = 0; at < status.st_size; at++) {
        int fd = open(file, O_RDWR);
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= (unsigned char)(1 << at % 8);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        close(fd);
        if (present(&place->cache, &key)) fail_msg("a changed byte %d was not noticed", (int)at);
        store(&place->cache, &key);
        assert_true(present(&place->cache, &key));
    }
    for (off_t length = 0; length <= status.st_size + 1; length++) {
        assert_int_equal(truncate(file, length), 0);
        if (present(&place->cache, &key) != (length == status.st_size)) fail_msg("length %d", (int)length);
        store(&place->cache, &key);
    }
    assert_true(present(&place->cache, &key));
    assert_int_equal(files_in(place->path), 1);
}

static void test_wrong_key(void **state) {
    place_t *place = *state;
    oh_cache_key_t a = key_of("a"), b = key_of("b");
    char from[PATH], to[PATH];
    file_of(place, &a, from);
    file_of(place, &b, to);
    store(&place->cache, &a);
    assert_int_equal(rename(from, to), 0);
    assert_false(present(&place->cache, &b));
    store(&place->cache, &b);
    assert_true(present(&place->cache, &b));
}

/* Whatever stands where the entry should: nothing is read through it, and nothing waits for it. */
static void test_strange_entries(void **state) {
    place_t *place = *state;
    oh_cache_key_t a = key_of("a"), b = key_of("b");
    char file[PATH], other[PATH];
    file_of(place, &a, file);
    file_of(place, &b, other);
    store(&place->cache, &a);

    assert_int_equal(chmod(file, 0620), 0);
    assert_false(present(&place->cache, &a));
    store(&place->cache, &a);
    assert_true(present(&place->cache, &a));

    assert_int_equal(rename(file, other), 0);
    assert_int_equal(symlink(other, file), 0);
    assert_false(present(&place->cache, &a));
    store(&place->cache, &a);
    assert_true(present(&place->cache, &a));

    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkfifo(file, 0600), 0);
    assert_false(present(&place->cache, &a));
    store(&place->cache, &a);
    assert_true(present(&place->cache, &a));

    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkdir(file, 0700), 0);
    assert_false(present(&place->cache, &a));
    store(&place->cache, &a); /* cannot be replaced, and leaves nothing */
    assert_false(present(&place->cache, &a));
    assert_int_equal(files_in(place->path), 2);
}

static void test_foreign_entry(void **state) {
    place_t *place = *state;
    if (geteuid() != 0) skip(); /* only root can give files away */
    oh_cache_key_t key = key_of("a");
    char file[PATH];
    file_of(place, &key, file);
    store(&place->cache, &key);
    assert_int_equal(chown(file, OTHER_USER, OTHER_USER), 0);
    assert_false(present(&place->cache, &key));
    store(&place->cache, &key);
    assert_true(present(&place->cache, &key));
}

/* ---- no room ---- */

static void test_full_disk(void **state) {
    place_t *place = *state;
    oh_cache_key_t key = key_of("a");
    disk.active = true;
    size_t room = 0;
    for (;; room++) {
        disk.room = room;
        store(&place->cache, &key);
        if (files_in(place->path) > 0) break;
        assert_true(room < 1000);
    }
    assert_true(room > PAYLOAD); /* only when all of it fitted */
    assert_true(present(&place->cache, &key));
    assert_int_equal(files_in(place->path), 1);
}

static void test_slow_disk(void **state) {
    place_t *place = *state;
    oh_cache_key_t key = key_of("a");
    disk.active = true;
    disk.room = SIZE_MAX;
    disk.at_once = 7;
    disk.interrupt = 3;
    store(&place->cache, &key);
    assert_true(present(&place->cache, &key));
    assert_true(disk.writes > PAYLOAD / 7);
}

static void store_beyond_limit(place_t *place) {
    struct rlimit limit = {PAYLOAD, PAYLOAD};
    oh_cache_key_t key = key_of("a");
    require(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    store(&place->cache, &key);
    require(!present(&place->cache, &key));
}

/* Going beyond the limit raises a signal, which the caller does not expect. */
static void test_file_size_limit(void **state) {
    place_t *place = *state;
    in_child(store_beyond_limit, place);
    assert_int_equal(files_in(place->path), 0);
}

/* ---- many at once ---- */

static void race(const place_t *place, int start) {
    oh_cache_t cache;
    char go;
    require(read(start, &go, 1) == 0); /* until all are there */
    oh_cache_open(&cache, place->path);
    require(cache.directory >= 0);
    for (int i = 0; i < ROUNDS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i % KEYS);
        oh_cache_key_t key = key_of(name);
        present(&cache, &key);
        store(&cache, &key);
        require(present(&cache, &key));
    }
}

static void test_race(void **state) {
    place_t *place = *state;
    int start[2];
    pid_t children[PROCESSES];
    assert_int_equal(pipe(start), 0);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            close(start[1]);
            race(place, start[0]);
            _exit(0);
        }
    }
    close(start[0]);
    close(start[1]);
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(files_in(place->path), KEYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test_setup_teardown(test_store_and_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_stored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_new_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_foreign_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strange_entries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_foreign_entry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_size_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_race, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
