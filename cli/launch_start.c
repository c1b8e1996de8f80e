/* SPDX-License-Identifier: Apache-2.0 */
/* How `onehop launch` starts its ranks. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"
#include "say.h"

/* What env and shells say of a program that is not there, or cannot be executed. */
enum { EXIT_CANNOT_EXECUTE = 126, EXIT_NOT_FOUND = 127 };

/* Names that no other launch uses. */
typedef struct names {
    char rendezvous[64], job[32];
} names_t;

static bool draw_names(names_t *names) {
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return false;
    snprintf(names->rendezvous, sizeof names->rendezvous, "unix:@onehop-%016llx", (unsigned long long)random[0]);
    snprintf(names->job, sizeof names->job, "%016llx", (unsigned long long)random[1]);
    return true;
}

/* ---- in the child ---- */

static bool set_environment(int rank, int nranks, const names_t *names) {
    char rank_text[16], nranks_text[16];
    snprintf(rank_text, sizeof rank_text, "%d", rank);
    snprintf(nranks_text, sizeof nranks_text, "%d", nranks);
    const char *const variables[][2] = {
        {"ONEHOP_RANK", rank_text},
        {"ONEHOP_NRANKS", nranks_text},
        {"ONEHOP_RENDEZVOUS", names->rendezvous},
        {"ONEHOP_JOB", names->job},
        {"RANK", rank_text},
        {"WORLD_SIZE", nranks_text},
        {"LOCAL_RANK", rank_text},
        {"LOCAL_WORLD_SIZE", nranks_text},
    };
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        if (setenv(variables[i][0], variables[i][1], 1) != 0) return false;
    }
    return true;
}

/* In a process group of its own a rank is not the terminal's: it must not try to read from it. */
static bool set_stdin(int rank) {
    if (rank == 0 && !isatty(STDIN_FILENO)) return true;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return null >= 0 && dup2(null, STDIN_FILENO) >= 0;
}

/* What a child needs to become a rank; all descriptors are closed by exec. */
typedef struct start {
    int rank, nranks;
    const names_t *names;
    pid_t launcher;
    const sigset_t *mask;
    char **program;
    int out, err;
    int failure; /* takes the errno of what went wrong */
} start_t;

_Noreturn static void become_rank(const start_t *start) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != start->launcher) _exit(EXIT_FAILED); /* it died before we asked */
    signal(SIGPIPE, SIG_DFL);                             /* which main has changed */
    signal(SIGXFSZ, SIG_DFL);
    sigprocmask(SIG_SETMASK, start->mask, NULL);
    if (set_environment(start->rank, start->nranks, start->names) && set_stdin(start->rank) &&
        dup2(start->out, STDOUT_FILENO) >= 0 && dup2(start->err, STDERR_FILENO) >= 0) {
        execvp(start->program[0], start->program);
    }
    int error = errno;
    _exit(write(start->failure, &error, sizeof error) > 0 ? EXIT_FAILED : EXIT_NOT_FOUND);
}

/* ---- in the launcher ---- */

static void set_stream(launch_stream_t *stream, int fd, int target, int rank) {
    stream->fd = fd;
    stream->lines = (lines_t){.target = target};
    snprintf(stream->lines.prefix, sizeof stream->lines.prefix, "[%d] ", rank);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Waits until the child has executed the program: 0, or the errno of what went wrong. */
static int wait_for_exec(int failure) {
    int error = 0;
    ssize_t got;
    do got = read(failure, &error, sizeof error);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof error ? error : 0;
}

/* Returns 0 or an errno. */
static int start_rank(launch_rank_t *rank, start_t *start) {
    int out[2] = {-1, -1}, err[2] = {-1, -1}, failure[2] = {-1, -1}, error = 0;
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 || pipe2(failure, O_CLOEXEC) != 0) error = errno;
    if (error == 0) {
        start->out = out[1], start->err = err[1], start->failure = failure[1];
        rank->pid = fork();
        if (rank->pid == 0) become_rank(start);
        if (rank->pid < 0) error = errno;
    }
    close(out[1]), close(err[1]), close(failure[1]);
    if (error == 0) error = wait_for_exec(failure[0]);
    close(failure[0]);
    if (error == 0) {
        set_stream(&rank->streams[0], out[0], STDOUT_FILENO, start->rank);
        set_stream(&rank->streams[1], err[0], STDERR_FILENO, start->rank);
    } else {
        close(out[0]), close(err[0]);
    }
    return error;
}

static void end_ranks(launch_ranks_t *ranks) {
    for (int r = 0; r < ranks->n && ranks->all[r].pid > 0; r++) {
        kill(-ranks->all[r].pid, SIGKILL);
        waitpid(ranks->all[r].pid, NULL, 0);
    }
}

int launch_start(launch_ranks_t *ranks, char **program, const sigset_t *mask) {
    names_t names;
    if (!draw_names(&names)) {
        complain("getrandom: %s", strerror(errno));
        return EXIT_FAILED;
    }
    fflush(NULL);
    start_t start = {.nranks = ranks->n, .names = &names, .launcher = getpid(), .mask = mask, .program = program};
    for (start.rank = 0; start.rank < ranks->n; start.rank++) {
        int error = start_rank(&ranks->all[start.rank], &start);
        if (error == 0) continue;
        complain("cannot start %s as rank %d: %s", program[0], start.rank, strerror(error));
        end_ranks(ranks);
        return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
    }
    return EXIT_OK;
}
