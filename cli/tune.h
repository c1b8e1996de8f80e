/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `onehop tune`.
 *
 *   tune.c          options; one run of ranks for every number of ranks; the table of what was found
 *   tune_shapes.c   the shapes to be measured: an algorithm, and how it runs
 *   tune_search.c   rank 0 decides what is measured next, and for how long
 *   tune_team.c     all ranks measure what rank 0 decides
 *   tune_choose.c   which shape from which size on
 *   tune_file.c     the file of tables, as the library reads it
 */
#ifndef CLI_TUNE_H
#define CLI_TUNE_H

#include <onehop.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench.h"
#include "parse.h"
#include "ranks.h"

enum {
    TUNE_SHAPES = 128,
    TUNE_HOST_TABLES = 2, /* of one run: for ordinary buffers and for registered ones */
    TUNE_SHAPE_TEXT = 32,
    TUNE_KEY_TEXT = 256,
    TUNE_NAME = 64, /* what the library takes of a name, with its zero */
    TUNE_PATH = 1024,
};
#define TUNE_NOT_GIVEN SIZE_MAX

typedef struct tune_options {
    ranks_t ranks;
    numbers_t nranks, max_blocks;
    dtypes_t dtypes;
    bench_options_t bench; /* how it is measured */
    size_t neighbour;      /* TUNE_NOT_GIVEN: as is usual */
    double seconds;
    bool dry_run;
    const char *output;
} tune_options_t;

/* How many a list of the options asks for: an empty one for what is usual, one. */
int tune_wanted(int count);

/* ---- shapes ---- */

typedef struct tune_shape {
    const char *algorithm;        /* the library's; NULL: what the library would do by itself */
    int packets, threads, blocks; /* on GPUs */
    size_t chunk_bytes;           /* on hosts, with the next */
    bool stream;
} tune_shape_t;

typedef struct tune_shapes {
    int count, preferred;          /* the first so many are preferred */
    tune_shape_t all[TUNE_SHAPES]; /* those first that are likely to be good */
} tune_shapes_t;

void tune_shapes_on_host(bool registered, tune_shapes_t *shapes);
void tune_shapes_on_gpu(int processors, int max_blocks, tune_shapes_t *shapes);
/* Prefers a shape that comes to this choice of the library for so many bytes; adds it if it is a new one. */
void tune_shapes_prefer(tune_shapes_t *shapes, size_t bytes, const onehop_choice_t *choice);

/* As the configuration of a communicator has it: "two_shot:65536:cached". */
void tune_shape_text(const tune_shape_t *shape, char text[TUNE_SHAPE_TEXT]);
/* Whether it makes sense to measure the shape where it comes to this choice. */
bool tune_shape_is_sensible(const tune_shape_t *shape, const onehop_choice_t *choice);

/* ---- what is found ---- */

typedef struct tune_row {
    size_t from_bytes;
    tune_shape_t shape;
    size_t first_bytes, last_bytes; /* that were measured */
    size_t at_bytes;                /* one between them, with the time there, and that of what was in force before */
    double time_us, before_us;
} tune_row_t;

/* What a table is for: that of another key is another table. */
typedef struct tune_key {
    onehop_device_t device;
    int nranks;
    char gpu[TUNE_NAME], links[TUNE_NAME]; /* on GPUs, with the next two */
    onehop_dtype_t dtype;
    int max_blocks;            /* the bound; 0: none */
    char placement[TUNE_NAME]; /* on hosts, with the next */
    bool registered;
} tune_key_t;

/* "4 ranks, NVIDIA H200, nvlink, bfloat16": for people. */
void tune_key_text(const tune_key_t *key, char text[TUNE_KEY_TEXT]);

typedef struct tune_table {
    tune_key_t key;
    int shapes, skipped; /* skipped: for which there was no time */
    int repetitions;     /* of the best of them */
    int elsewhere;       /* measurements in another placement, which do not count */
    int nrows;           /* 0: there was no time for any */
    tune_row_t rows[SIZES_MAX];
} tune_table_t;

/* One run of ranks, as who starts them sees it. */
typedef struct tune_run {
    const tune_options_t *options;
    int64_t end_ns; /* on the monotonic clock */
    struct tune_found *found;
} tune_run_t;

/* What the ranks tell who started them: rank 0 fills it. In shared memory; the strings of its shapes are the library's,
 * which lies at the same place in all ranks. */
typedef struct tune_found {
    bool was_first; /* whether rank 0 was among us */
    int count, room;
    tune_table_t tables[];
} tune_found_t;

/* ---- the ranks ---- */

/* For ranks_run, with a tune_run_t. */
bool tune_rank(rank_t *rank, void *ctx);

/* What rank 0 has to lead the others. */
typedef struct tune_team tune_team_t;

/* What a size was found to take. */
typedef struct tune_measured {
    double us;
    onehop_choice_t choice;
    char placement[TUNE_NAME]; /* "": there is no such thing */
} tune_measured_t;

/* Orders to all ranks, by rank 0: go over to this shape; measure it with a message of so many bytes, verified unless it
 * is done again. False, with the rank's failure noted, if it cannot be done. */
bool tune_order_shape(tune_team_t *team, const tune_shape_t *shape);
bool tune_order_size(tune_team_t *team, size_t bytes, bool again, tune_measured_t *measured);
/* No order: what the shape does with it. */
bool tune_explain(tune_team_t *team, size_t bytes, onehop_choice_t *choice);

/* On rank 0: measures the shapes until `end_ns`, and fills in the table below its key. */
bool tune_search(rank_t *rank, tune_team_t *team, const sizes_t *sizes, tune_shapes_t *shapes, int64_t end_ns,
                 tune_table_t *table);

/* ---- the file ---- */

/* Where the library looks for it: the file that ONEHOP_TUNING names, else the usual place. False: nowhere. */
bool tune_file_place(char path[TUNE_PATH]);
/* Makes the folders above it. False, with errno set, if that cannot be done. */
bool tune_file_make_folders(const char *path);
/* Whether the library takes the file that is there now; if it does not, `why` says so, or is "" where there is none. */
enum { TUNE_WHY = 512 };
bool tune_file_is_good(const char *path, char why[TUNE_WHY]);
/* Writes the tables, and those of other keys that the file has if it is to be `kept`. Complains if it cannot. */
bool tune_file_write(const char *path, bool keep, const tune_found_t *found);

#endif
