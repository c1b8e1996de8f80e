/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `onehop launch`: starts the ranks of a program and stays with them to the end. One loop waits for their output, for
 * signals and for time; launch_start.c is what happens before it.
 */
#include "launch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "commands.h"
#include "parse.h"
#include "say.h"

enum { PATIENCE_MS = 5000, READ_BYTES = 65536, STREAMS_MAX = 2 * ONEHOP_MAX_RANKS };

static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};

/* What happens to the ranks that still run. Each step but the last ends when PATIENCE_MS are over. */
typedef enum phase {
    PHASE_FREE,       /* nothing */
    PHASE_GRACE,      /* one has failed, and they may end by themselves */
    PHASE_TERMINATED, /* they got SIGTERM */
    PHASE_KILLED      /* they got SIGKILL */
} phase_t;

typedef struct launch {
    launch_ranks_t ranks;
    outbox_t outbox;
    int signal_fd;
    phase_t phase;
    int64_t deadline_ms; /* of the phase */
    int status;          /* the exit status: that of the first failure */
} launch_t;

/* A line of our own: it waits its turn, so as not to break into a rank's. */
__attribute__((format(printf, 2, 3))) static void tell(launch_t *launch, const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    size_t length = complaint_text(line, sizeof line, format, arguments);
    va_end(arguments);
    outbox_put(&launch->outbox, STDERR_FILENO, line, length);
}

/* ---- ranks ---- */

static int running(const launch_t *launch) {
    int count = 0;
    for (int r = 0; r < launch->ranks.n; r++) count += launch->ranks.all[r].pid != 0;
    return count;
}

/* To the rank's whole process group: it may be a script that waits for the program. */
static void signal_ranks(const launch_t *launch, int signal) {
    for (int r = 0; r < launch->ranks.n; r++) {
        if (launch->ranks.all[r].pid != 0) kill(-launch->ranks.all[r].pid, signal);
    }
}

static void enter_phase(launch_t *launch, phase_t phase) {
    launch->phase = phase;
    launch->deadline_ms = now_ms() + PATIENCE_MS;
    if (phase == PHASE_TERMINATED) signal_ranks(launch, SIGTERM);
    if (phase == PHASE_KILLED) signal_ranks(launch, SIGKILL);
}

/* The first failure decides the exit status. */
static void fail(launch_t *launch, int status, phase_t phase) {
    if (launch->status == EXIT_OK) launch->status = status;
    if (launch->phase < phase) enter_phase(launch, phase);
}

static void note_end(launch_t *launch, int rank, int status) {
    launch_rank_t *who = &launch->ranks.all[rank];
    int pid = (int)who->pid;
    who->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    /* Who ends after we asked for it has not failed. */
    if (launch->phase >= PHASE_TERMINATED) return;
    const char *what_next =
        running(launch) > 0 && launch->phase == PHASE_FREE ? "; the others have 5 seconds to end" : "";
    if (WIFSIGNALED(status)) {
        int signal = WTERMSIG(status);
        tell(launch, "rank %d (process %d) was killed by signal %d (%s)%s", rank, pid, signal, strsignal(signal),
             what_next);
        fail(launch, 128 + signal, PHASE_GRACE);
    } else {
        tell(launch, "rank %d (process %d) exited with status %d%s", rank, pid, WEXITSTATUS(status), what_next);
        fail(launch, WEXITSTATUS(status), PHASE_GRACE);
    }
}

static void reap(launch_t *launch) {
    for (int r = 0; r < launch->ranks.n; r++) {
        int status;
        pid_t pid = launch->ranks.all[r].pid;
        if (pid != 0 && waitpid(pid, &status, WNOHANG) == pid) note_end(launch, r, status);
    }
}

static void next_phase(launch_t *launch) {
    if (launch->phase == PHASE_FREE || launch->phase == PHASE_KILLED || running(launch) == 0) return;
    if (now_ms() < launch->deadline_ms) return;
    phase_t next = launch->phase == PHASE_GRACE ? PHASE_TERMINATED : PHASE_KILLED;
    for (int r = 0; r < launch->ranks.n; r++) {
        const launch_rank_t *rank = &launch->ranks.all[r];
        if (rank->pid == 0) continue;
        tell(launch, "rank %d (process %d) still runs: it gets %s", r, (int)rank->pid,
             next == PHASE_TERMINATED ? "SIGTERM" : "SIGKILL");
    }
    enter_phase(launch, next);
}

/* ---- what arrives ---- */

static void take_signals(launch_t *launch) {
    struct signalfd_siginfo info;
    while (read(launch->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD) {
            reap(launch);
        } else {
            signal_ranks(launch, (int)info.ssi_signo);
        }
    }
}

static void close_stream(launch_t *launch, launch_stream_t *stream) {
    if (!lines_end(&stream->lines, &launch->outbox)) fail(launch, EXIT_FAILED, PHASE_TERMINATED);
    lines_free(&stream->lines);
    close(stream->fd);
    stream->fd = -1;
}

/* A stream ends with its last writer; or, when all ranks have ended, with what is there: who they left behind may go on
 * writing for ever. */
static void take_output(launch_t *launch, launch_stream_t *stream) {
    static char bytes[READ_BYTES];
    ssize_t got = read(stream->fd, bytes, sizeof bytes);
    if (got > 0) {
        if (lines_feed(&stream->lines, bytes, (size_t)got, &launch->outbox)) return;
        tell(launch, "no memory for the output of the ranks");
        fail(launch, EXIT_FAILED, PHASE_TERMINATED);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR) || running(launch) == 0) {
        close_stream(launch, stream);
    }
}

static void give_output(launch_t *launch) {
    int fd = outbox_target(&launch->outbox), error = outbox_write(&launch->outbox);
    if (error == 0) return;
    tell(launch, "cannot write standard %s: %s", fd == STDOUT_FILENO ? "output" : "error", strerror(error));
    fail(launch, EXIT_FAILED, PHASE_TERMINATED);
}

/* ---- the loop ---- */

static int time_left_ms(const launch_t *launch) {
    if (launch->phase == PHASE_FREE || launch->phase == PHASE_KILLED || running(launch) == 0) return -1;
    int64_t left = launch->deadline_ms - now_ms();
    return left > 0 ? (int)left : 0;
}

/* Output is read only when all that was read before is written: who reads ours slowly slows the ranks down. */
static void run_once(launch_t *launch) {
    struct pollfd polled[1 + STREAMS_MAX] = {{.fd = launch->signal_fd, .events = POLLIN}};
    launch_stream_t *streams[1 + STREAMS_MAX];
    nfds_t count = 1;
    int target = outbox_target(&launch->outbox);
    if (target >= 0) polled[count++] = (struct pollfd){.fd = target, .events = POLLOUT};
    for (int i = 0; i < 2 * launch->ranks.n && target < 0; i++) {
        launch_stream_t *stream = &launch->ranks.all[i / 2].streams[i % 2];
        if (stream->fd < 0) continue;
        streams[count] = stream;
        polled[count++] = (struct pollfd){.fd = stream->fd, .events = POLLIN};
    }
    bool last_words = running(launch) == 0;
    poll(polled, count, last_words && target < 0 ? 0 : time_left_ms(launch));
    if (polled[0].revents != 0) take_signals(launch);
    if (target >= 0 && polled[1].revents != 0) give_output(launch);
    for (nfds_t i = 1; i < count && target < 0; i++) {
        if (polled[i].revents != 0 || last_words) take_output(launch, streams[i]);
    }
    next_phase(launch);
}

static bool busy(const launch_t *launch) {
    if (running(launch) > 0 || outbox_target(&launch->outbox) >= 0) return true;
    for (int i = 0; i < 2 * launch->ranks.n; i++) {
        if (launch->ranks.all[i / 2].streams[i % 2].fd >= 0) return true;
    }
    return false;
}

static int launch_program(int nranks, char **program) {
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) sigaddset(&signals, passed_on[i]);
    sigprocmask(SIG_BLOCK, &signals, &before);
    launch_t launch = {.ranks.n = nranks, .signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC)};
    if (launch.signal_fd < 0) {
        complain("signalfd: %s", strerror(errno));
        return EXIT_FAILED;
    }
    outbox_init(&launch.outbox);
    launch.status = launch_start(&launch.ranks, program, &before);
    if (launch.status != EXIT_OK) return launch.status;
    while (busy(&launch)) run_once(&launch);
    return launch.status;
}

int command_launch(int argc, char **argv) {
    int nranks = 0;
    const option_row_t rows[] = {
        {"nranks", 'n', "N", parse_int, &nranks, 1, ONEHOP_MAX_RANKS, "ranks to start (required)"},
    };
    const command_line_t line = {
        .usage = "-n N -- PROGRAM [ARGUMENTS]",
        .operands = true,
        .about =
            "Starts N processes of PROGRAM, with ONEHOP_RANK, ONEHOP_NRANKS, ONEHOP_RENDEZVOUS, ONEHOP_JOB, and as\n"
            "torchrun does RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE in their environment.\n"
            "\n"
            "Each line that they print is preceded by the rank. Rank 0 reads standard input, unless that is a\n"
            "terminal. SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to them. If one fails, the\n"
            "others have 5 seconds to end; then they get SIGTERM, and 5 seconds later SIGKILL. The exit status\n"
            "is that of the first that failed, 128 + its number if it was a signal.",
        .options = rows,
        .noptions = sizeof rows / sizeof rows[0],
        .stop_at_operand = true,
    };
    int operand, status = parse_command_line(&line, argc, argv, &operand);
    if (status != PARSE_GO_ON) return status;
    if (nranks == 0) {
        complain("--nranks is missing: expected the number of ranks to start");
        return EXIT_USAGE;
    }
    if (operand == argc) {
        complain("the program is missing: expected onehop launch -n %d -- PROGRAM [ARGUMENTS]", nranks);
        return EXIT_USAGE;
    }
    return launch_program(nranks, argv + operand);
}
