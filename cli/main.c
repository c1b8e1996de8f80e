/* SPDX-License-Identifier: Apache-2.0 */
/* The command `onehop`: finds the subcommand and hands over. */
#include <errno.h>
#include <fcntl.h>
#include <onehop.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "say.h"

typedef struct command {
    const char *name, *full_name, *about;
    int (*run)(int argc, char **argv);
} command_t;

static const command_t commands[] = {
    {"bench", "onehop bench", "time all-reduces and verify their results", command_bench},
    {"check", "onehop check", "verify results for every type, operation, algorithm and many sizes", command_check},
    {"info", "onehop info", "show the ranks, the workspace, and what is chosen for each size and why", command_info},
    {"launch", "onehop launch", "start the ranks of a program", command_launch},
    {"reduce", "onehop reduce", "all-reduce arrays in .npy files, one rank a file", command_reduce},
    {"tune", "onehop tune", "measure which algorithm is best for which size, and write it down", command_tune},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out) {
    fputs("usage: onehop COMMAND [ARGUMENTS]\n\nAll-reduce for ranks that reach one another in one hop.\n\ncommands:\n",
          out);
    for (int i = 0; i < COMMANDS; i++) fprintf(out, "  %-8s  %s\n", commands[i].name, commands[i].about);
    fputs("\n`onehop COMMAND --help` says more of each. `onehop --version` prints the version.\n", out);
}

/* Without this, a file or socket opened later would take the place of a standard stream that the caller has closed,
 * and what is printed would go there. Reading or writing the substitute is an error, as it was before. */
static void occupy_standard_streams(void) {
    static const int wrong_way[] = {O_WRONLY, O_RDONLY, O_RDONLY};
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", wrong_way[fd]) != fd) _exit(EXIT_FAILED);
    }
}

int main(int argc, char **argv) {
    occupy_standard_streams();
    signal(SIGPIPE, SIG_IGN); /* a write that fails is an error to report, not the end */
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* who ignores it cannot wait for children, and it is inherited */
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        print_usage(stdout);
        return stdout_arrived() ? EXIT_OK : EXIT_FAILED;
    }
    if (strcmp(word, "--version") == 0) {
        printf("onehop %s\n", onehop_version());
        return stdout_arrived() ? EXIT_OK : EXIT_FAILED;
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(word, commands[i].name) != 0) continue;
        say_name(commands[i].full_name);
        return commands[i].run(argc - 1, argv + 1);
    }
    complain("\"%s\" is no command: expected bench, check, info, launch, reduce or tune", word);
    return EXIT_USAGE;
}
