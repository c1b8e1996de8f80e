/* SPDX-License-Identifier: Apache-2.0 */
/* What the command says: complaints, progress, and the care that what it printed has arrived. */
#ifndef CLI_SAY_H
#define CLI_SAY_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2, /* the arguments are wrong */
};

/* What complaints begin with: "onehop bench". Lives as long as the program. */
void say_name(const char *name);
const char *say_get_name(void);

/* One line on stderr, "onehop bench: ...", written at once so that lines of several processes stay whole. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Puts that line into `line`, for who writes it in another way; returns its length, line feed included. */
size_t complaint_text(char *line, size_t room, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* NULL if all that was printed to stdout has been written, else a sentence that says why it has not. */
const char *stdout_error(void);
/* The same, as the end of a command: complains where there is cause. */
bool stdout_arrived(void);

/* A line on stderr that the next one replaces; nothing where stderr is no terminal. */
void progress_show(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_clear(void);

#endif
