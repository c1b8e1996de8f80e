/* SPDX-License-Identifier: Apache-2.0 */
#include "ranks.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "device.h"
#include "say.h"

/* How long ranks may go on after one of them failed. */
enum { GRACE_MS = 5000 };

/* Shared by all ranks: the first failure, read when all of them have ended; and where threads meet. */
typedef struct board {
    atomic_bool taken;
    int rank;
    char text[1024];
    atomic_int arrived; /* at a meeting */
    atomic_uint meetings;
} board_t;

void *shared_alloc(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void shared_free(void *memory, size_t bytes) { munmap(memory, bytes); }

static bool is_set(const char *variable) {
    const char *value = getenv(variable);
    return value != NULL && value[0] != '\0';
}

void ranks_resolve(ranks_t *ranks) {
    if (ranks->nranks > 0) return;
    if (!ranks->threads && (is_set("ONEHOP_RANK") || is_set("RANK"))) return;
    cpu_set_t allowed;
    int cpus = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 2;
    ranks->nranks = cpus < 2 ? 2 : cpus > 8 ? 8 : cpus;
}

/* ---- in a rank ---- */

bool rank_fail(rank_t *self, const char *format, ...) {
    if (atomic_exchange(&self->board->taken, true)) return false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->board->text, sizeof self->board->text, format, arguments);
    va_end(arguments);
    self->board->rank = self->rank;
    return false;
}

bool rank_try(rank_t *self, onehop_result_t result) {
    if (result == ONEHOP_SUCCESS) return true;
    return rank_fail(self, "%s", onehop_last_error());
}

bool rank_printed(rank_t *self) {
    const char *error = stdout_error();
    return error == NULL || rank_fail(self, "%s", error);
}

bool rank_agree(rank_t *self, uint64_t *value) {
    if (self->rank != 0) *value = 0;
    return rank_all_reduce_host(self, value, 1, ONEHOP_UINT64, ONEHOP_SUM);
}

static bool meet(rank_t *self) {
    board_t *board = self->board;
    unsigned meeting = atomic_load(&board->meetings);
    if (atomic_fetch_add(&board->arrived, 1) + 1 == self->nranks) {
        atomic_store(&board->arrived, 0);
        atomic_fetch_add(&board->meetings, 1);
    }
    while (atomic_load(&board->meetings) == meeting && !board->taken) sched_yield();
    return !board->taken;
}

bool rank_meet(rank_t *self) { return !self->threads || meet(self); }

/* A GPU is opened first, if it is known which. */
static bool start_clock(rank_t *self, int gpu) {
    if ((gpu >= 0 && !device_open(self, gpu)) || !meet(self)) return false;
    self->begun_ns = now_ns();
    return true;
}

static bool run_rank(rank_t *self, const onehop_config_t *config, rank_fn body, void *ctx) {
    if (!rank_try(self, onehop_comm_create(config, &self->comm))) {
        device_leave(self);
        return false;
    }
    self->rank = onehop_comm_rank(self->comm);
    self->nranks = onehop_comm_nranks(self->comm);
    bool good = device_enter(self) && body(self, ctx);
    onehop_comm_destroy(self->comm);
    device_leave(self);
    return good;
}

static onehop_config_t config_of(const ranks_t *ranks) {
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    config.device = ranks->device;
    config.algorithm = ranks->algorithm;
    config.timeout_ms = ranks->timeout_ms;
    return config;
}

/* As ranks_gpus, for who forks no more. */
static int gpus_to_choose_from(const ranks_t *ranks) {
    if (ranks->device == ONEHOP_DEVICE_HOST || is_set("ONEHOP_DEVICE_INDEX")) return 0;
    const char *device = getenv("ONEHOP_DEVICE");
    if (ranks->device == ONEHOP_DEVICE_AUTO && device != NULL && strcmp(device, "host") == 0) return 0;
    return gpu_count();
}

/* Asks in a process of its own. */
int ranks_gpus(const ranks_t *ranks) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) _exit(gpus_to_choose_from(ranks));
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

/* ---- in a rank: another communicator ---- */

static int gather_through(void *ctx, const void *mine, void *all, size_t bytes_each) {
    rank_t *self = ctx;
    memset(all, 0, bytes_each * (size_t)self->nranks);
    memcpy((char *)all + bytes_each * (size_t)self->rank, mine, bytes_each);
    bool good = rank_all_reduce_host(self, all, bytes_each * (size_t)self->nranks, ONEHOP_UINT8, ONEHOP_MAX);
    return good ? 0 : -1;
}

bool rank_branch(rank_t *self, const onehop_config_t *settings, rank_t *branch) {
    onehop_comm_info_t info = {.size = sizeof info};
    if (!rank_try(self, onehop_comm_get_info(self->comm, &info))) return false;
    onehop_config_t config = *settings;
    config.rank = self->rank;
    config.nranks = self->nranks;
    config.device = info.device;
    config.device_index = info.device_index;
    config.allgather = gather_through;
    config.allgather_ctx = self;
    *branch = *self;
    return rank_try(self, onehop_comm_create(&config, &branch->comm)) && rank_meet(self);
}

bool rank_branch_end(rank_t *branch) {
    onehop_comm_destroy(branch->comm);
    return rank_meet(branch);
}

/* ---- as this process ---- */

static int run_environment(const ranks_t *ranks, rank_fn body, void *ctx, board_t *board) {
    onehop_config_t config = config_of(ranks);
    rank_t self = {.rank = -1, .board = board};
    bool good = run_rank(&self, &config, body, ctx);
    if (board->taken && self.rank >= 0) complain("rank %d: %s", self.rank, board->text);
    if (board->taken && self.rank < 0) complain("%s", board->text);
    return good ? EXIT_OK : EXIT_FAILED;
}

/* ---- in processes ---- */

typedef struct crew {
    int nranks;
    pid_t parent, pids[ONEHOP_MAX_RANKS]; /* 0 once the rank is reaped */
    bool failed, killed;                  /* one of them; by us */
    int killed_rank;                      /* who died of a signal that is not ours, first of all; -1: nobody */
    int signal;
    pid_t killed_pid;
} crew_t;

_Noreturn static void be_rank(rank_t *self, const crew_t *crew, const ranks_t *ranks, onehop_config_t config,
                              rank_fn body, void *ctx) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != crew->parent) _exit(EXIT_FAILED); /* it died before we asked */
    int gpus = gpus_to_choose_from(ranks);
    if (gpus > 0) config.device_index = self->rank % gpus;
    if (ranks->timed && !start_clock(self, config.device_index)) exit(EXIT_FAILED);
    exit(run_rank(self, &config, body, ctx) ? EXIT_OK : EXIT_FAILED);
}

static void note_end(crew_t *crew, int rank, int status) {
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) crew->failed = true;
    if (WIFSIGNALED(status) && !crew->killed && crew->killed_rank < 0) {
        crew->killed_rank = rank;
        crew->killed_pid = crew->pids[rank];
        crew->signal = WTERMSIG(status);
    }
    crew->pids[rank] = 0;
}

/* Reaps who has ended; returns how many still run. */
static int reap(crew_t *crew) {
    int running = 0;
    for (int r = 0; r < crew->nranks; r++) {
        int status;
        if (crew->pids[r] == 0) continue;
        if (waitpid(crew->pids[r], &status, WNOHANG) == crew->pids[r]) {
            note_end(crew, r, status);
        } else {
            running++;
        }
    }
    return running;
}

/* Waits for all of them, and not much longer than for the first that fails. SIGCHLD is blocked. */
static void supervise(crew_t *crew) {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    int64_t deadline = INT64_MAX;
    while (reap(crew) > 0) {
        if (!crew->failed) {
            sigwaitinfo(&child, NULL);
            continue;
        }
        int64_t now = now_ms();
        if (deadline == INT64_MAX) deadline = now + GRACE_MS;
        if (now >= deadline && !crew->killed) {
            crew->killed = true;
            for (int r = 0; r < crew->nranks; r++) {
                if (crew->pids[r] != 0) kill(crew->pids[r], SIGKILL);
            }
        }
        int64_t patience = crew->killed ? GRACE_MS : deadline - now;
        struct timespec timeout = {patience / 1000, patience % 1000 * 1000000};
        sigtimedwait(&child, NULL, &timeout);
    }
}

static void start_processes(const ranks_t *ranks, rank_fn body, void *ctx, board_t *board, crew_t *crew,
                            const sigset_t *mask) {
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) < 0) random = (uint64_t)now_ms();
    char rendezvous[64];
    snprintf(rendezvous, sizeof rendezvous, "unix:@onehop-%d-%016llx", (int)crew->parent, (unsigned long long)random);
    onehop_config_t config = config_of(ranks);
    config.nranks = ranks->nranks;
    config.rendezvous = rendezvous;
    config.job = rendezvous;
    fflush(NULL); /* what is buffered is printed by the parent alone */
    for (int r = 0; r < ranks->nranks; r++) {
        crew->pids[r] = fork();
        if (crew->pids[r] == 0) {
            sigprocmask(SIG_SETMASK, mask, NULL);
            rank_t self = {.rank = r, .nranks = ranks->nranks, .board = board};
            config.rank = r;
            be_rank(&self, crew, ranks, config, body, ctx);
        }
        if (crew->pids[r] > 0) continue;
        rank_t nobody = {.rank = r, .board = board};
        rank_fail(&nobody, "cannot be started: %s", strerror(errno));
        crew->pids[r] = 0;
        crew->failed = true;
        return;
    }
}

static int run_processes(const ranks_t *ranks, rank_fn body, void *ctx, board_t *board) {
    sigset_t child, mask;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &mask);
    crew_t crew = {.nranks = ranks->nranks, .parent = getpid(), .killed_rank = -1};
    start_processes(ranks, body, ctx, board, &crew, &mask);
    supervise(&crew);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (crew.killed_rank >= 0) {
        complain("rank %d (process %d) was killed by signal %d (%s)", crew.killed_rank, (int)crew.killed_pid,
                 crew.signal, strsignal(crew.signal));
    } else if (board->taken) {
        complain("rank %d: %s", board->rank, board->text);
    }
    return crew.failed ? EXIT_FAILED : EXIT_OK;
}

/* ---- in threads ---- */

typedef struct thread_rank {
    rank_t rank;
    rank_fn body;
    void *ctx;
    pthread_t thread;
    bool good;
} thread_rank_t;

static void *be_thread(void *argument) {
    thread_rank_t *self = argument;
    self->good = device_enter(&self->rank) && self->body(&self->rank, self->ctx);
    onehop_comm_destroy(self->rank.comm); /* now, so that the others need not wait for a rank that has failed */
    device_leave(&self->rank);
    return NULL;
}

/* What the call that makes ranks of one process takes from the environment. Nothing else runs yet. */
static void put_into_environment(const ranks_t *ranks) {
    if (ranks->algorithm != NULL) setenv("ONEHOP_ALGORITHM", ranks->algorithm, 1);
    char text[16];
    snprintf(text, sizeof text, "%d", ranks->timeout_ms);
    if (ranks->timeout_ms > 0) setenv("ONEHOP_TIMEOUT_MS", text, 1);
    /* Streams that share a queue would make ranks that share a GPU wait for each other's kernels. */
    setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

/* The ranks' communicators, made by this thread; on failure complains, and leaves no GPU open. */
static bool make_local(const ranks_t *ranks, thread_rank_t *all) {
    onehop_comm_t *comms[ONEHOP_MAX_RANKS];
    int indices[ONEHOP_MAX_RANKS], gpus = gpus_to_choose_from(ranks), n = ranks->nranks;
    bool good = true;
    for (int r = 0; r < n && gpus > 0; r++) indices[r] = r % gpus;
    for (int r = 0; r < n && gpus > 0 && ranks->timed && good; r++) good = device_open(&all[r].rank, indices[r]);
    int64_t begun = now_ns();
    if (!good) {
        complain("%s", all[0].rank.board->text);
    } else if (onehop_comm_create_local(n, gpus > 0 ? indices : NULL, ranks->device, comms) != ONEHOP_SUCCESS) {
        complain("%s", onehop_last_error());
        good = false;
    }
    for (int r = 0; r < n; r++) {
        if (!good) device_leave(&all[r].rank);
        all[r].rank.begun_ns = begun;
        all[r].rank.comm = good ? comms[r] : NULL;
    }
    return good;
}

static int run_threads(const ranks_t *ranks, rank_fn body, void *ctx, board_t *board) {
    thread_rank_t all[ONEHOP_MAX_RANKS];
    for (int r = 0; r < ranks->nranks; r++) {
        rank_t self = {.rank = r, .nranks = ranks->nranks, .board = board, .threads = true};
        all[r] = (thread_rank_t){.rank = self, .body = body, .ctx = ctx};
    }
    put_into_environment(ranks);
    if (!make_local(ranks, all)) return EXIT_FAILED;
    int started = 0;
    bool good = true;
    for (int r = 0; r < ranks->nranks; r++) {
        if (started == r && pthread_create(&all[r].thread, NULL, be_thread, &all[r]) == 0) {
            started++;
        } else {
            good = rank_fail(&all[r].rank, "no thread can be started for it");
            onehop_comm_destroy(all[r].rank.comm); /* which frees the ranks that were started */
            device_leave(&all[r].rank);
        }
    }
    for (int r = 0; r < started; r++) {
        pthread_join(all[r].thread, NULL);
        good &= all[r].good;
    }
    if (board->taken) complain("rank %d: %s", board->rank, board->text);
    return good ? EXIT_OK : EXIT_FAILED;
}

int ranks_run(const ranks_t *ranks, rank_fn body, void *ctx) {
    board_t *board = shared_alloc(sizeof *board);
    if (board == NULL) {
        complain("no shared memory: %s", strerror(errno));
        return EXIT_FAILED;
    }
    int (*run)(const ranks_t *, rank_fn, void *, board_t *) = ranks->nranks == 0 ? run_environment
                                                              : ranks->threads   ? run_threads
                                                                                 : run_processes;
    int status = run(ranks, body, ctx, board);
    shared_free(board, sizeof *board);
    return status;
}
