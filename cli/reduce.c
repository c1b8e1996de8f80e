/* SPDX-License-Identifier: Apache-2.0 */
/* `onehop reduce`: all-reduces arrays in files, one rank a file. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "device.h"
#include "memory.h"
#include "npy.h"
#include "output.h"
#include "parse.h"
#include "ranks.h"
#include "say.h"

enum { PIECE = 16 << 20 }; /* bytes that are in memory at once */

typedef struct reduce_options {
    ranks_t ranks;
    onehop_op_t op;
    const char *output;
    char **paths;
    npy_t array; /* what every file holds */
    int fds[ONEHOP_MAX_RANKS];
    size_t offsets[ONEHOP_MAX_RANKS]; /* where its data begin */
} reduce_options_t;

/* ---- a rank ---- */

static bool read_piece(rank_t *rank, const reduce_options_t *o, void *buffer, size_t at, size_t bytes) {
    const char *path = o->paths[rank->rank];
    for (size_t done = 0; done < bytes;) {
        off_t offset = (off_t)(o->offsets[rank->rank] + at + done);
        ssize_t got = pread(o->fds[rank->rank], (char *)buffer + done, bytes - done, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return rank_fail(rank, "%s cannot be read: %s", path, strerror(errno));
        if (got == 0) return rank_fail(rank, "%s became shorter while it was read", path);
        done += (size_t)got;
    }
    return true;
}

/* Piece by piece, in place. Only rank 0 has a file to write to. */
static bool reduce_pieces(rank_t *rank, const reduce_options_t *o, void *buffer, FILE *out) {
    size_t size = onehop_dtype_size(o->array.dtype), total = o->array.count * size;
    for (size_t at = 0; at < total; at += PIECE) {
        size_t bytes = total - at < PIECE ? total - at : PIECE;
        if (!read_piece(rank, o, buffer, at, bytes) ||
            !rank_all_reduce_host(rank, buffer, bytes / size, o->array.dtype, o->op))
            return false;
        if (out != NULL && fwrite(buffer, 1, bytes, out) != bytes) {
            return rank_fail(rank, "cannot write %s: %s", o->output, strerror(errno));
        }
    }
    return true;
}

static bool reduce_into(rank_t *rank, const reduce_options_t *o, void *buffer) {
    output_t output;
    char header[NPY_HEADER_MAX];
    size_t bytes = npy_make_header(&o->array, header);
    if (!output_open(&output, o->output)) return rank_fail(rank, "%s", output.error);
    fwrite(header, 1, bytes, output.file);
    if (!reduce_pieces(rank, o, buffer, output.file)) {
        output_discard(&output);
        return false;
    }
    return output_commit(&output) || rank_fail(rank, "%s", output.error);
}

static bool reduce_rank(rank_t *rank, void *ctx) {
    const reduce_options_t *o = ctx;
    void *buffer = memory_get(rank, PIECE, false);
    if (buffer == NULL) return false;
    bool good = rank->rank == 0 ? reduce_into(rank, o, buffer) : reduce_pieces(rank, o, buffer, NULL);
    memory_drop(rank, buffer, false);
    return good;
}

/* ---- the files ---- */

/* Whether two files can be reduced; says how they differ. */
static bool same_kind(const char *path_a, const npy_t *a, const char *path_b, const npy_t *b) {
    char shape_a[NPY_SHAPE_TEXT], shape_b[NPY_SHAPE_TEXT];
    npy_shape_text(a, shape_a);
    npy_shape_text(b, shape_b);
    if (a->dtype != b->dtype) {
        complain("%s has the type %s, but %s has %s: expected the same", path_b, npy_descr(b->dtype), path_a,
                 npy_descr(a->dtype));
    } else if (strcmp(shape_a, shape_b) != 0) {
        complain("%s has the shape %s, but %s has %s: expected the same", path_b, shape_b, path_a, shape_a);
    } else if (a->fortran != b->fortran) {
        complain("%s is in %s order, but %s is in %s order: expected the same", path_b, b->fortran ? "Fortran" : "C",
                 path_a, a->fortran ? "Fortran" : "C");
    } else {
        return true;
    }
    return false;
}

static bool open_files(reduce_options_t *o) {
    for (int r = 0; r < o->ranks.nranks; r++) {
        npy_t array;
        char why[NPY_TEXT];
        o->fds[r] = npy_open(o->paths[r], &array, why);
        if (o->fds[r] < 0) {
            complain("%s %s", o->paths[r], why);
            return false;
        }
        if (r == 0) o->array = array;
        if (!same_kind(o->paths[0], &o->array, o->paths[r], &array)) return false;
        o->offsets[r] = array.data_offset;
    }
    return true;
}

static int reduce_files(reduce_options_t *o) {
    output_t output;
    if (!open_files(o)) return EXIT_FAILED;
    if (!output_possible(&output, o->output)) {
        complain("%s", output.error);
        return EXIT_FAILED;
    }
    return ranks_run(&o->ranks, reduce_rank, o);
}

/* ---- the command ---- */

int command_reduce(int argc, char **argv) {
    reduce_options_t o = {.ranks.device = ONEHOP_DEVICE_AUTO};
    const option_row_t rows[] = {
        {"output", 'o', "FILE", parse_path, &o.output, 0, 0, "where the result goes (required)"},
        {"op", 0, "OP", parse_op, &o.op, 0, 0, "sum, prod, min, max or avg (default sum)"},
        {"algorithm", 'a', "NAME", parse_algorithm, &o.ranks.algorithm, 0, 0, "force an algorithm"},
        {"device", 0, "DEVICE", parse_device, &o.ranks.device, 0, 0, "auto, host or cuda (default auto)"},
        {"timeout-ms", 0, "N", parse_int, &o.ranks.timeout_ms, 1, INT_MAX, "how long an operation may wait for a rank"},
    };
    const command_line_t line = {
        .usage = "[OPTIONS] A.npy [B.npy ...] -o SUM.npy",
        .operands = true,
        .about = "Combines arrays element by element: each .npy file is given to a rank of its own, and the ranks\n"
                 "all-reduce. The files have the same type, shape and order. The result appears whole or not at all.",
        .options = rows,
        .noptions = sizeof rows / sizeof rows[0],
    };
    int operand, status = parse_command_line(&line, argc, argv, &operand);
    if (status != PARSE_GO_ON) return status;
    int files = argc - operand;
    if (files < 1 || files > ONEHOP_MAX_RANKS) {
        complain("%d files are given: expected 1 to %d", files, ONEHOP_MAX_RANKS);
        return EXIT_USAGE;
    }
    if (o.output == NULL) {
        complain("--output is missing: expected where the result goes");
        return EXIT_USAGE;
    }
    o.paths = argv + operand;
    o.ranks.nranks = files;
    return reduce_files(&o);
}
