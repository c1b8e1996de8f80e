/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators come and go without a trace, and are right with any workspace, grid, memory, cache and tuning table. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "on_gpu.h"

/* ---- comings and goings ---- */

/* A random order that is the same on all ranks. */
static void draw_order(rng_t *rng, int *order, int count) {
    for (int i = 0; i < count; i++) {
        int j = (int)rng_below(rng, (uint64_t)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

static void one_life(seat_t *seat, const image_t *image, rng_t *rng, int generation) {
    int order[ONEHOP_MAX_RANKS];
    seat_join(seat, generation, NULL);
    if (generation % 2 == 0) sweep(seat, image, GPU_MIB); /* every other one is never used */
    draw_order(rng, order, seat->nranks);
    for (int i = 0; i < seat->nranks; i++) {
        team_barrier();
        if (order[i] == seat->rank) seat_leave(seat);
    }
    team_barrier();
}

/* Less than before is no leak: the driver has its own descriptors and threads. */
static void check_growth(resources_t before) {
    resources_t now = resources_now();
    for (int i = 0; i < 1000 && now.threads > before.threads; i++) { /* a thread is joined before it is forgotten */
        nap_us(1000);
        now = resources_now();
    }
    CHECK(now.descriptors <= before.descriptors, "%d descriptors more than before",
          now.descriptors - before.descriptors);
    CHECK(now.mappings <= before.mappings, "%d shared mappings more than before", now.mappings - before.mappings);
    CHECK(now.threads <= before.threads, "%d threads more than before", now.threads - before.threads);
}

static void lives(int rank, int nranks, void *ctx) {
    enum { LIVES = 50, QUICK_LIVES = 20, BEFORE = 10, SLACK = 4 * GPU_MIB };
    rng_t rng = {tests_seed()};
    (void)ctx;
    seat_t seat = seat_take(rank, nranks);
    image_t image = image_new(&seat, ONEHOP_FLOAT32, ONEHOP_SUM, GPU_MIB);
    size_t used = 0;
    resources_t before = {0, 0, 0};
    int last = rounds(LIVES, QUICK_LIVES);
    for (int i = 0; i < last; i++) {
        if (i == BEFORE) { /* the driver has by now what it keeps */
            used = gpu_memory_used();
            before = resources_now();
            team_barrier();
        }
        one_life(&seat, &image, &rng, i);
    }
    size_t now = gpu_memory_used();
    CHECK(now <= used + SLACK, "%zu bytes of the GPU's memory more than %d communicators ago", now - used,
          last - BEFORE);
    check_growth(before);
    team_barrier();
    image_free(&seat, &image);
    seat_give_back(&seat);
}

void case_lifetime(int gpus) { team_run(gpus, lives, NULL); }

/* ---- workspace and grid ---- */

static void check_bounds(seat_t *seat, const onehop_config_t *wish) {
    onehop_comm_info_t info = {.size = sizeof info};
    onehop_choice_t choice = {.size = sizeof choice};
    CHECK_SUCCESS(onehop_comm_get_info(seat->comm, &info));
    CHECK(info.device == ONEHOP_DEVICE_CUDA, "the device is %d", (int)info.device);
    CHECK(info.workspace_bytes <= wish->workspace_bytes, "the workspace has %zu bytes", info.workspace_bytes);
    CHECK_SUCCESS(onehop_comm_explain(seat->comm, GPU_MIB, ONEHOP_FLOAT32, ONEHOP_SUM, 0, &choice));
    CHECK(choice.blocks >= 1 && (wish->max_blocks == 0 || choice.blocks <= wish->max_blocks), "%d blocks of at most %d",
          choice.blocks, wish->max_blocks);
    CHECK(choice.packets >= 1 && choice.packets <= 4 && choice.steps >= 1, "%d packets in %d steps", choice.packets,
          choice.steps);
    CHECK(strcmp(info.links, "nvlink") == 0 || strcmp(info.links, "pcie") == 0, "the links are \"%s\"", info.links);
}

static void bounded(int rank, int nranks, void *ctx) {
    static const int blocks[] = {0, 1, 4, 32}; /* 0: as tuned */
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.workspace_bytes = *(const size_t *)ctx;
    seat_t seat = seat_take(rank, nranks);
    image_t images[] = {image_new(&seat, ONEHOP_FLOAT32, ONEHOP_SUM, 4 * GPU_MIB),
                        image_new(&seat, ONEHOP_INT64, ONEHOP_MAX, 4 * GPU_MIB)};
    for (int i = 0; i < (int)(sizeof blocks / sizeof *blocks); i++) {
        wish.max_blocks = blocks[i];
        seat_join(&seat, i, &wish);
        check_bounds(&seat, &wish);
        for (int k = 0; k < 2; k++) sweep(&seat, &images[k], 4 * GPU_MIB);
        team_barrier();
        seat_leave(&seat);
    }
    for (int k = 0; k < 2; k++) image_free(&seat, &images[k]);
    seat_give_back(&seat);
}

void case_bounds(int gpus) {
    size_t workspaces[] = {64 << 10, GPU_MIB, 32 * GPU_MIB};
    for (size_t i = 0; i < sizeof workspaces / sizeof *workspaces; i++) {
        printf("a workspace of %zu bytes\n", workspaces[i]);
        fflush(stdout);
        team_run(gpus, bounded, &workspaces[i]);
    }
}

/* ---- memory ---- */

static void shared_as(int rank, int nranks, void *ctx) {
    const char *memory = ctx;
    onehop_comm_info_t info = {.size = sizeof info};
    setenv("ONEHOP_MEMORY", memory, 1);
    seat_t seat = seat_take(rank, nranks);
    seat_join(&seat, 0, NULL);
    CHECK_SUCCESS(onehop_comm_get_info(seat.comm, &info));
    CHECK(strcmp(info.memory, memory) == 0, "memory is shared as \"%s\" instead of \"%s\"", info.memory, memory);
    image_t image = image_new(&seat, ONEHOP_FLOAT32, ONEHOP_SUM, GPU_MESSAGE);
    sweep(&seat, &image, GPU_MESSAGE);
    image_free(&seat, &image);
    team_barrier();
    seat_leave(&seat);
    seat_give_back(&seat);
}

void case_memory(int gpus) {
    char vmm[] = "vmm", ipc[] = "ipc";
    team_run(gpus, shared_as, vmm);
    team_run(gpus, shared_as, ipc);
}

/* ---- cache ---- */

/* directory NULL: what follows from an environment that names no home. */
static void cached_in(int rank, int nranks, void *ctx) {
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    wish.cache_dir = ctx;
    if (ctx == NULL) {
        static const char *const names[] = {"ONEHOP_CACHE_DIR", "XDG_CACHE_HOME", "HOME"};
        for (int i = 0; i < 3; i++) unsetenv(names[i]);
    }
    seat_t seat = seat_take(rank, nranks);
    seat_join(&seat, 0, &wish);
    image_t image = image_new(&seat, ONEHOP_FLOAT32, ONEHOP_SUM, GPU_MIB);
    sweep(&seat, &image, GPU_MIB);
    image_free(&seat, &image);
    team_barrier();
    seat_leave(&seat);
    seat_give_back(&seat);
}

static void run_cached_in(int nranks, char *directory, const char *what) {
    int64_t begin = now_ns();
    printf("%s: ", what);
    fflush(stdout);
    team_run(nranks, cached_in, directory);
    printf("%lld ms\n", (long long)((now_ns() - begin) / 1000000));
}

/* What is in a file is replaced by something else; `kind` says by what. */
static void damage(const char *path, int kind) {
    static const char text[] = "this is no kernel\n";
    struct stat status;
    char byte;
    int file = open(path, O_RDWR | O_CLOEXEC);
    CHECK(file >= 0 && fstat(file, &status) == 0 && status.st_size > 0, "%s: %s", path, strerror(errno));
    bool done = false;
    switch (kind) {
    case 0: done = ftruncate(file, 0) == 0; break;
    case 1: done = ftruncate(file, status.st_size / 2) == 0; break;
    case 2:
        done = pread(file, &byte, 1, status.st_size / 2) == 1;
        byte = (char)~byte;
        done = done && pwrite(file, &byte, 1, status.st_size / 2) == 1;
        break;
    case 3: done = pwrite(file, text, sizeof text, 0) == (ssize_t)sizeof text; break;
    case 4: done = unlink(path) == 0 && mkfifo(path, 0600) == 0; break;
    default: done = unlink(path) == 0 && mkdir(path, 0700) == 0; break;
    }
    close(file);
    CHECK(done, "%s cannot be damaged: %s", path, strerror(errno));
}

/* Damages what is there and returns how much that was. */
static int damage_all(const char *directory) {
    enum { KINDS = 6 };
    struct stat status;
    int count = 0;
    DIR *dir = opendir(directory);
    CHECK(dir != NULL, "%s: %s", directory, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        /* What cannot be replaced by a file stays what it was made: a directory. */
        if (entry->d_name[0] != '.' && lstat(path, &status) == 0 && !S_ISDIR(status.st_mode))
            damage(path, count++ % KINDS);
    }
    closedir(dir);
    return count;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where) {
    (void)status, (void)kind, (void)where;
    return remove(path);
}

static void make_file(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(file >= 0, "%s: %s", path, strerror(errno));
    close(file);
}

void case_cache(int gpus) {
    char base[] = "/tmp/onehop-test-cache-XXXXXX", path[256], nowhere[] = "", forbidden[] = "/proc/self/onehop";
    const int nranks = gpus < 2 ? gpus : 2;
    CHECK(mkdtemp(base) != NULL, "mkdtemp: %s", strerror(errno));
    run_cached_in(nranks, nowhere, "no cache");
    run_cached_in(nranks, NULL, "no home");
    run_cached_in(nranks, forbidden, "a directory that cannot be made");
    snprintf(path, sizeof path, "%s/file", base);
    make_file(path);
    run_cached_in(nranks, path, "a file instead of a directory");
    snprintf(path, sizeof path, "%s/readonly", base);
    CHECK(mkdir(path, 0500) == 0, "mkdir: %s", strerror(errno));
    run_cached_in(nranks, path, "a directory that cannot be written");
    snprintf(path, sizeof path, "%s/new/deep", base);
    run_cached_in(nranks, path, "a new directory");
    for (int i = 0; i < 2; i++) {
        int damaged = damage_all(path);
        CHECK(damaged > 0, "nothing was kept in %s", path);
        printf("%d files ", damaged);
        run_cached_in(nranks, path, "damaged");
    }
    CHECK(nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "%s cannot be removed: %s", base, strerror(errno));
}

/* ---- tuning tables ---- */

/* Rows that nobody would wish for: every algorithm once, of small blocks. */
static void write_table(const char *path, const char *gpu, int nranks) {
    static const char *const links[] = {"pcie", "nvlink"};
    FILE *file = fopen(path, "w");
    CHECK(file != NULL, "%s: %s", path, strerror(errno));
    fprintf(file,
            "{\"schema\": \"onehop-tuning-1\", \"version\": \"%s\", \"date\": \"2026-11-21\", \"host\": \"here\", "
            "\"tables\": [",
            onehop_version());
    for (int i = 0; i < 2; i++) {
        fprintf(file,
                "%s{\"device\": \"cuda\", \"gpu\": \"%s\", \"links\": \"%s\", \"nranks\": %d, \"dtype\": "
                "\"float32\", \"max_blocks\": 0, \"rows\": [",
                i > 0 ? ", " : "", gpu, links[i], nranks);
        for (int a = 0; onehop_algorithm_name(ONEHOP_DEVICE_CUDA, a) != NULL; a++) {
            fprintf(file,
                    "%s{\"from_bytes\": %d, \"algorithm\": \"%s\", \"packets\": 2, \"threads\": 96, \"blocks\": 5}",
                    a > 0 ? ", " : "", a << 18, onehop_algorithm_name(ONEHOP_DEVICE_CUDA, a));
        }
        fprintf(file, "]}");
    }
    fprintf(file, "]}\n");
    CHECK(fclose(file) == 0, "%s: %s", path, strerror(errno));
}

static void check_tuned(seat_t *seat, const char *words, bool table) {
    onehop_comm_info_t info = {.size = sizeof info};
    CHECK_SUCCESS(onehop_comm_get_info(seat->comm, &info));
    CHECK(strstr(info.tuning, words) != NULL, "\"%s\" is not in: %s", words, info.tuning);
    for (int a = 0; table && onehop_algorithm_name(ONEHOP_DEVICE_CUDA, a) != NULL; a++) {
        onehop_choice_t choice = {.size = sizeof choice};
        CHECK_SUCCESS(onehop_comm_explain(seat->comm, (size_t)a << 16, ONEHOP_FLOAT32, ONEHOP_SUM, 0, &choice));
        CHECK(strcmp(choice.algorithm, onehop_algorithm_name(ONEHOP_DEVICE_CUDA, a)) == 0 && choice.blocks <= 5,
              "%d KiB: %s", a << 8, choice.reason);
    }
}

/* Rank 0's table, and then the model, decide for all. */
static void tuned(int rank, int nranks, void *ctx) {
    const char *path = ctx;
    onehop_comm_info_t info = {.size = sizeof info};
    onehop_config_t wish = ONEHOP_CONFIG_INIT;
    seat_t seat = seat_take(rank, nranks);
    seat_join(&seat, 0, NULL);
    CHECK_SUCCESS(onehop_comm_get_info(seat.comm, &info));
    if (rank == 0) write_table(path, info.device_name, nranks);
    team_barrier();
    seat_leave(&seat);
    image_t image = image_new(&seat, ONEHOP_FLOAT32, ONEHOP_SUM, 4 * GPU_MIB);
    for (int generation = 1; generation <= 2; generation++) {
        wish.tuning = rank > 0 ? "built-in" : generation == 1 ? path : "model";
        seat_join(&seat, generation, &wish);
        check_tuned(&seat, generation == 1 ? path : "model", generation == 1);
        sweep(&seat, &image, 4 * GPU_MIB);
        team_barrier();
        seat_leave(&seat);
    }
    image_free(&seat, &image);
    seat_give_back(&seat);
}

void case_tuning(int gpus) {
    char folder[] = "/tmp/onehop-test-tuned-XXXXXX", path[64];
    CHECK(mkdtemp(folder) != NULL, "mkdtemp: %s", strerror(errno));
    snprintf(path, sizeof path, "%s/tuning.json", folder);
    for (int nranks = 1; nranks <= gpus; nranks++) team_run(nranks, tuned, path);
    CHECK(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "%s cannot be removed: %s", folder, strerror(errno));
}
