/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void release(output_t *output) {
    free(output->target);
    free(output->temporary);
    output->target = output->temporary = NULL;
    output->file = NULL;
}

static bool fail(output_t *output, int error) {
    snprintf(output->error, sizeof output->error, "cannot write %s: %s", output->path, strerror(error));
    release(output);
    return false;
}

/* The caller's umask, which can be read only by setting it. */
static mode_t read_umask(void) {
    mode_t mask = umask(0);
    umask(mask);
    return mask;
}

static FILE *open_beside(output_t *output, mode_t mode) {
    if (asprintf(&output->temporary, "%s.XXXXXX", output->target) < 0) {
        output->temporary = NULL;
        return NULL;
    }
    int fd = mkstemp(output->temporary);
    if (fd < 0) return NULL;
    FILE *file = fchmod(fd, mode) == 0 ? fdopen(fd, "wb") : NULL;
    if (file == NULL) {
        int error = errno;
        unlink(output->temporary);
        close(fd);
        errno = error;
    }
    return file;
}

bool output_open(output_t *output, const char *path) {
    *output = (output_t){.path = path};
    struct stat existing;
    if (stat(path, &existing) != 0) {
        output->target = strdup(path);
        if (output->target != NULL) output->file = open_beside(output, 0666 & ~read_umask());
    } else if (!S_ISREG(existing.st_mode)) {
        output->file = fopen(path, "wb");
    } else if (access(path, W_OK) == 0) { /* the rename would not ask */
        output->target = realpath(path, NULL);
        if (output->target != NULL) output->file = open_beside(output, existing.st_mode & 07777);
    }
    return output->file != NULL || fail(output, errno);
}

bool output_commit(output_t *output) {
    errno = 0;
    bool good = fflush(output->file) == 0 && !ferror(output->file);
    int error = errno != 0 ? errno : EIO; /* what an earlier write met is not known any more */
    if (fclose(output->file) != 0 && good) {
        error = errno;
        good = false;
    }
    if (good && output->temporary != NULL && rename(output->temporary, output->target) != 0) {
        error = errno;
        good = false;
    }
    if (!good && output->temporary != NULL) unlink(output->temporary);
    if (!good) return fail(output, error);
    release(output);
    return true;
}

void output_discard(output_t *output) {
    fclose(output->file);
    if (output->temporary != NULL) unlink(output->temporary);
    release(output);
}

bool output_possible(output_t *output, const char *path) {
    struct stat existing;
    if (stat(path, &existing) == 0 && !S_ISREG(existing.st_mode) && !S_ISDIR(existing.st_mode)) {
        *output = (output_t){.path = path}; /* opening a pipe would disturb its reader */
        return access(path, W_OK) == 0 || fail(output, errno);
    }
    if (!output_open(output, path)) return false;
    output_discard(output);
    return true;
}
