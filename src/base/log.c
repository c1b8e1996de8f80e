/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

/* Opened anew for each line: events are rare, and no descriptor or setting is kept behind the caller's back. */
void oh_log(const char *format, ...) {
    const char *path = getenv("ONEHOP_LOG");
    if (path == NULL || path[0] == '\0') return;
    int saved_errno = errno;
    char line[1024];
    int used = snprintf(line, sizeof line, "onehop %lld.%06lld [%d] ", (long long)(oh_now_ns() / 1000000000),
                        (long long)(oh_now_ns() / 1000 % 1000000), (int)getpid());
    va_list arguments;
    va_start(arguments, format);
    int text = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, arguments);
    va_end(arguments);
    size_t length = (size_t)used + (text < 0 ? 0 : (size_t)text);
    if (length > sizeof line - 2) length = sizeof line - 2;
    line[length++] = '\n';
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        /* One write a line, so that lines of many processes do not mix; a log that cannot be written is not an error.
         */
        ssize_t written = write(fd, line, length);
        (void)written;
        close(fd);
    }
    errno = saved_errno;
}
