/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands: each gets its own name as argv[0] and returns the exit status. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

int command_bench(int argc, char **argv);
int command_check(int argc, char **argv);
int command_info(int argc, char **argv);
int command_launch(int argc, char **argv);
int command_reduce(int argc, char **argv);
int command_tune(int argc, char **argv);

#endif
