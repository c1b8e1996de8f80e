/* SPDX-License-Identifier: Apache-2.0 */
#include "say.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const char *program_name = "onehop";

void say_name(const char *name) { program_name = name; }

const char *say_get_name(void) { return program_name; }

size_t complaint_text(char *line, size_t room, const char *format, va_list arguments) {
    size_t length = (size_t)snprintf(line, room - 1, "%s: ", program_name);
    vsnprintf(line + length, room - 1 - length, format, arguments);
    length = strlen(line);
    line[length++] = '\n';
    return length;
}

void complain(const char *format, ...) {
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    size_t length = complaint_text(line, sizeof line, format, arguments);
    va_end(arguments);
    progress_clear();
    /* Nothing is left to be done where even this cannot be written. */
    if (write(STDERR_FILENO, line, length) < 0) return;
}

const char *stdout_error(void) {
    static char text[128];
    /* An earlier error stays noted in the stream, but errno is that of this attempt. */
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return NULL;
    snprintf(text, sizeof text, "cannot write standard output: %s",
             errno != 0 ? strerror(errno) : "an earlier write failed");
    return text;
}

bool stdout_arrived(void) {
    const char *error = stdout_error();
    if (error != NULL) complain("%s", error);
    return error == NULL;
}

static bool progress_shown;

void progress_show(const char *format, ...) {
    if (!isatty(STDERR_FILENO)) return;
    progress_clear();
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fflush(stderr);
    progress_shown = true;
}

void progress_clear(void) {
    if (!progress_shown) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress_shown = false;
}
