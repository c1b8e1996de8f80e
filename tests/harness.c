/* SPDX-License-Identifier: Apache-2.0 */
/* Teams of processes for the integration tests; see harness.h. */
#include "harness.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* After the headers that it needs. */
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif
#if defined(__SANITIZE_THREAD__)
#define COUNT_THREADS 0 /* it has threads of its own, which begin with the first of ours */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COUNT_THREADS 0
#endif
#endif
#ifndef COUNT_THREADS
#define COUNT_THREADS 1
#endif

enum { TEAM_SECONDS = 60, AFTER_FAILURE_SECONDS = 5 };

/* What one rank tells the supervisor. */
typedef struct slot {
    atomic_int failed;
    char failure[1600];
    char doing[240];
} slot_t;

/* Shared by the supervisor and the ranks of one team. */
typedef struct board {
    pthread_barrier_t barrier;
    char name[64];
    slot_t slots[ONEHOP_MAX_RANKS];
} board_t;

struct team {
    board_t *board;
    int nranks;
    pid_t pids[ONEHOP_MAX_RANKS];
    int pidfds[ONEHOP_MAX_RANKS]; /* -1 once the rank is reaped */
    int status[ONEHOP_MAX_RANKS];
    bool killed[ONEHOP_MAX_RANKS]; /* by team_signal */
};

/* Set in the process of a rank alone. */
static board_t *my_board;
static slot_t *my_slot;

static struct {
    uint64_t seed;
    int64_t started; /* seconds of the wall clock, as files count them */
    int teams;
    team_t *team;                    /* that runs now */
    struct sigaction handlers[NSIG]; /* before cmocka set its own */
} run;

/* Cmocka turns these into failures of its test, in the wrong process if a rank has them. */
static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
enum { CRASHES = sizeof crashes / sizeof *crashes };

static void team_abandon(void);

/* ---- Checks ---- */

void check_failed(const char *file, int line, const char *condition, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!my_slot) {
        print_error("%s:%d: %s: %s\n", file, line, condition, text);
        team_abandon();
        _fail(file, line);
        abort(); /* not reached: _fail leaves the test */
    }
    /* Only the first failing thread tells. */
    if (atomic_exchange(&my_slot->failed, 1) == 0) {
        const char *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
        snprintf(my_slot->failure, sizeof my_slot->failure, "%s:%d: %s: %s", name, line, condition, text);
    }
    _exit(1);
}

void check_result(const char *file, int line, const char *call, onehop_result_t expected, onehop_result_t actual) {
    if (actual == expected) return;
    check_failed(file, line, call, "got \"%s\" instead of \"%s\": %s", onehop_result_string(actual),
                 onehop_result_string(expected), onehop_last_error());
}

void check_error_says(const char *file, int line, const char *words) {
    if (!strstr(onehop_last_error(), words))
        check_failed(file, line, words, "not in the error \"%s\"", onehop_last_error());
}

bool says_word(const char *text, const char *word) {
    size_t length = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at++) {
        bool begins = at == text || !isalnum((unsigned char)at[-1]);
        bool ends = !isalnum((unsigned char)at[length]);
        if (begins && ends) return true;
    }
    return false;
}

bool says_number(const char *text, const char *word, uint64_t number) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s%s%llu", word, *word ? " " : "", (unsigned long long)number);
    return says_word(text, wanted);
}

void doing(const char *format, ...) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* between the threads of a rank */
    if (!my_slot) return;
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&lock);
    vsnprintf(my_slot->doing, sizeof my_slot->doing, format, args);
    pthread_mutex_unlock(&lock);
    va_end(args);
}

/* ---- Runs ---- */

void tests_begin(const char *name) {
    const char *given = getenv("ONEHOP_TEST_SEED");
    if (given)
        run.seed = strtoull(given, NULL, 0);
    else if (getrandom(&run.seed, sizeof run.seed, 0) != (ssize_t)sizeof run.seed)
        run.seed = (uint64_t)now_ns();
    run.started = (int64_t)time(NULL);
    printf("%s: ONEHOP_TEST_SEED=0x%llx\n", name, (unsigned long long)run.seed);
    fflush(stdout);
    for (int i = 0; i < CRASHES; i++) sigaction(crashes[i], NULL, &run.handlers[crashes[i]]);
    /* So that a process that a rank leaves behind becomes ours, and is noticed. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    /* The environment of whoever runs the tests must not steer them. */
    static const char *const settings[] = {
        "RANK",       "NRANKS", "DEVICE",    "DEVICE_INDEX",    "RENDEZVOUS",          "TIMEOUT_MS",
        "MAX_BLOCKS", "JOB",    "ALGORITHM", "WORKSPACE_BYTES", "BOOTSTRAP_TIMEOUT_MS"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        char variable[64];
        snprintf(variable, sizeof variable, "ONEHOP_%s", settings[i]);
        unsetenv(variable);
    }
    setenv("ONEHOP_TUNING", "built-in", 1);
}

uint64_t tests_seed(void) { return run.seed; }

int rounds(int full, int quick) {
    const char *wish = getenv("ONEHOP_TEST_QUICK");
    return wish && strcmp(wish, "1") == 0 ? quick : full;
}

int tests_seconds(int usual) {
    const char *wish = getenv("ONEHOP_TEST_SECONDS");
    return wish != NULL && atoi(wish) > 0 ? atoi(wish) : usual;
}

int64_t patience_ms(int64_t ms) { return SANITIZED ? 5 * ms : ms; }

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void nap_us(int64_t us) {
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) continue;
}

bool reaches(_Atomic int *flag, int value, int64_t ms) {
    int64_t deadline = now_ns() + ms * 1000000;
    while (atomic_load(flag) < value) {
        if (now_ns() > deadline) return false;
        nap_us(100);
    }
    return true;
}

/* ---- Randomness ---- */

uint64_t mix64(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t rng_next(rng_t *rng) {
    rng->state += 0x9e3779b97f4a7c15u;
    return mix64(rng->state);
}

uint64_t rng_below(rng_t *rng, uint64_t bound) { return rng_next(rng) % bound; }

uint64_t rng_log_below(rng_t *rng, uint64_t bound) {
    unsigned bits = 0;
    while (bits < 63 && bound >> (bits + 1)) bits++;
    uint64_t below = 1ull << (1 + rng_below(rng, bits + 1));
    return rng_below(rng, below < bound ? below : bound);
}

/* ---- Teams ---- */

void *shared_zalloc(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED, "mmap of %zu bytes: %s", bytes, strerror(errno));
    return memory;
}

void shared_free(void *memory, size_t bytes) { munmap(memory, bytes); }

static board_t *board_new(int nranks) {
    board_t *board = shared_zalloc(sizeof *board);
    pthread_barrierattr_t attributes;
    pthread_barrierattr_init(&attributes);
    pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&board->barrier, &attributes, (unsigned)nranks);
    pthread_barrierattr_destroy(&attributes);
    uint64_t salt = 0;
    if (getrandom(&salt, sizeof salt, 0) != (ssize_t)sizeof salt) salt = (uint64_t)now_ns();
    snprintf(board->name, sizeof board->name, "unix:@onehop-test-%d-%d-%08x", (int)getpid(), run.teams++,
             (unsigned)salt);
    return board;
}

static _Noreturn void rank_main(team_t *team, int rank, pid_t parent, rank_fn body, void *ctx) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    for (int i = 0; i < CRASHES; i++) sigaction(crashes[i], &run.handlers[crashes[i]], NULL);
    my_board = team->board;
    my_slot = &team->board->slots[rank];
    int nranks = team->nranks;
    free(team);
    run.team = NULL;
    body(rank, nranks, ctx);
    doing("exit");
    exit(0); /* not _exit: leak checkers look now */
}

team_t *team_start(int nranks, rank_fn body, void *ctx) {
    team_t *team = calloc(1, sizeof *team);
    CHECK(team != NULL, "out of memory");
    team->board = board_new(nranks);
    team->nranks = nranks;
    for (int r = 0; r < nranks; r++) team->pidfds[r] = -1;
    fflush(NULL);
    pid_t parent = getpid();
    for (int r = 0; r < nranks; r++) {
        team->pids[r] = fork();
        CHECK(team->pids[r] >= 0, "fork: %s", strerror(errno));
        if (team->pids[r] == 0) rank_main(team, r, parent, body, ctx);
    }
    for (int r = 0; r < nranks; r++) {
        team->pidfds[r] = (int)syscall(SYS_pidfd_open, team->pids[r], 0);
        CHECK(team->pidfds[r] >= 0, "pidfd_open: %s", strerror(errno));
    }
    run.team = team;
    return team;
}

pid_t team_pid(const team_t *team, int rank) { return team->pids[rank]; }

void team_signal(team_t *team, int rank, int signal) {
    if (signal == SIGKILL) team->killed[rank] = true;
    kill(team->pids[rank], signal);
}

static void reap(team_t *team, int rank) {
    waitpid(team->pids[rank], &team->status[rank], 0);
    close(team->pidfds[rank]);
    team->pidfds[rank] = -1;
}

/* Whether the rank ended as it should have; if not, says how. */
static bool ended_well(const team_t *team, int rank, bool killed) {
    int status = team->status[rank];
    const slot_t *slot = &team->board->slots[rank];
    if (killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
    if (!killed && WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    if (slot->failure[0])
        print_error("rank %d: %s\n", rank, slot->failure);
    else if (WIFSIGNALED(status))
        print_error("rank %d: died of signal %d (%s) while doing: %s\n", rank, WTERMSIG(status),
                    strsignal(WTERMSIG(status)), slot->doing);
    else
        print_error("rank %d: exit code %d while doing: %s\n", rank, WEXITSTATUS(status), slot->doing);
    return false;
}

/* Reaps ranks as they end, until all have or the limit is reached; then returns whether all ended well. */
static bool await_ranks(team_t *team, int killed) {
    int64_t deadline = now_ns() + patience_ms((TEAM_SECONDS + tests_seconds(0)) * 1000) * 1000000;
    int left = team->nranks;
    bool well = true;
    while (left > 0 && now_ns() < deadline) {
        struct pollfd ends[ONEHOP_MAX_RANKS];
        for (int r = 0; r < team->nranks; r++) ends[r] = (struct pollfd){team->pidfds[r], POLLIN, 0};
        if (poll(ends, (nfds_t)team->nranks, 100) <= 0) continue;
        for (int r = 0; r < team->nranks; r++) {
            if (!(ends[r].revents & POLLIN)) continue;
            reap(team, r);
            left--;
            if (ended_well(team, r, r == killed || team->killed[r]) || !well) continue;
            well = false;
            int64_t sooner = now_ns() + patience_ms(AFTER_FAILURE_SECONDS * 1000) * 1000000;
            if (sooner < deadline) deadline = sooner;
        }
    }
    for (int r = 0; r < team->nranks; r++) {
        if (team->pidfds[r] < 0) continue;
        print_error("rank %d: did not end, while doing: %s\n", r, team->board->slots[r].doing);
        kill(team->pids[r], SIGKILL);
        reap(team, r);
        well = false;
    }
    return well;
}

/* Reaps processes that ranks left to us (see tests_begin). They get a second to end; returns how many did not. */
static int end_strays(void) {
    int64_t deadline = now_ns() + patience_ms(1000) * 1000000;
    for (pid_t ended = 1; ended >= 0 && now_ns() < deadline;)
        if ((ended = waitpid(-1, NULL, WNOHANG)) == 0) nap_us(200);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    for (int strays = 0, pid;; strays++) {
        FILE *children = fopen(path, "r");
        bool found = children && fscanf(children, "%d", &pid) == 1;
        if (children) fclose(children);
        if (!found) return strays;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}

/* Where the supervisor fails while ranks run: tells what they were doing, and ends them. */
static void team_abandon(void) {
    team_t *team = run.team;
    if (!team) return;
    run.team = NULL;
    for (int r = 0; r < team->nranks; r++) {
        const slot_t *slot = &team->board->slots[r];
        print_error("rank %d: %s\n", r, slot->failure[0] ? slot->failure : slot->doing);
        if (team->pidfds[r] < 0) continue;
        kill(team->pids[r], SIGKILL);
        reap(team, r);
    }
    end_strays();
    shared_free(team->board, sizeof *team->board);
    free(team);
}

void team_finish(team_t *team, int killed) {
    bool well = await_ranks(team, killed);
    int strays = end_strays();
    int nranks = team->nranks;
    run.team = NULL;
    shared_free(team->board, sizeof *team->board);
    free(team);
    CHECK(well, "team of %d ranks, ONEHOP_TEST_SEED=0x%llx", nranks, (unsigned long long)run.seed);
    CHECK(strays == 0, "%d processes outlived the rank that started them", strays);
}

void team_run(int nranks, rank_fn body, void *ctx) { team_finish(team_start(nranks, body, ctx), -1); }

void team_barrier(void) { pthread_barrier_wait(&my_board->barrier); }

void team_rendezvous(int generation, char *name, size_t size) {
    snprintf(name, size, "%s-%d", my_board->name, generation);
}

onehop_config_t team_config(int rank, int nranks, const char *name) {
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    config.rank = rank;
    config.nranks = nranks;
    config.device = ONEHOP_DEVICE_HOST;
    config.rendezvous = name;
    config.timeout_ms = (int)patience_ms(20000);
    config.bootstrap_timeout_ms = (int)patience_ms(20000);
    return config;
}

onehop_comm_t *team_join(int rank, int nranks, int generation, const onehop_config_t *wish) {
    char name[96];
    team_rendezvous(generation, name, sizeof name);
    onehop_config_t config = team_config(rank, nranks, name);
    if (wish) {
        onehop_config_t base = config;
        config = *wish;
        config.rank = base.rank;
        config.nranks = base.nranks;
        config.rendezvous = base.rendezvous;
        config.device = base.device;
        if (!config.timeout_ms) config.timeout_ms = base.timeout_ms;
        if (!config.bootstrap_timeout_ms) config.bootstrap_timeout_ms = base.bootstrap_timeout_ms;
    }
    doing("create communicator %d as rank %d of %d", generation, rank, nranks);
    onehop_comm_t *comm = NULL;
    CHECK_SUCCESS(onehop_comm_create(&config, &comm));
    CHECK(comm != NULL, "onehop_comm_create stored NULL");
    return comm;
}

/* ---- What a process holds ---- */

static int entries(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return -1;
    int count = 0;
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static int shared_mappings(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) return -1;
    char line[512];
    int count = 0;
    while (fgets(line, sizeof line, maps)) count += strstr(line, "/memfd:") || strstr(line, "/dev/shm/");
    fclose(maps);
    return count;
}

resources_t resources_now(void) {
    return (resources_t){entries("/proc/self/fd"), shared_mappings(), COUNT_THREADS ? entries("/proc/self/task") : 0};
}

void resources_check(resources_t before, const char *when) {
    resources_t now = resources_now();
    /* A thread is joined a little before the kernel has forgotten it. */
    for (int i = 0; i < 1000 && now.threads > before.threads; i++) {
        nap_us(1000);
        now = resources_now();
    }
    CHECK(now.descriptors == before.descriptors, "%s: %d descriptors more than before", when,
          now.descriptors - before.descriptors);
    CHECK(now.mappings == before.mappings, "%s: %d shared mappings more than before", when,
          now.mappings - before.mappings);
    CHECK(now.threads == before.threads, "%s: %d threads more than before", when, now.threads - before.threads);
}

/* Fails if `folder` holds a file that is named after Onehop, is ours, and is younger than this run. Other tests, which
 * may run beside this one, call theirs onehop-test. */
static void folder_check(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[512];
        struct stat file;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (!strstr(entry->d_name, "onehop") || strstr(entry->d_name, "onehop-test") || lstat(path, &file) != 0)
            continue;
        CHECK(S_ISDIR(file.st_mode) || file.st_uid != geteuid() || file.st_mtime < run.started, "%s was left behind",
              path);
    }
    closedir(dir);
}

void leftovers_check(void) {
    folder_check("/dev/shm");
    folder_check("/tmp");
    char mine[64], line[512];
    snprintf(mine, sizeof mine, "@onehop-test-%d-", (int)getpid());
    FILE *sockets = fopen("/proc/net/unix", "r");
    while (sockets && fgets(line, sizeof line, sockets)) CHECK(!strstr(line, mine), "socket left behind: %s", line);
    if (sockets) fclose(sockets);
}
