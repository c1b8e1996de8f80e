/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "tune.h"

enum {
    KIB = 1024,
    BLOCKS_MIN = 8, /* of a message that makes sense of a shape, unless the shape is the smallest */
    STEPS_MAX = 16,
    THREADS_MIN = 64,
    THREADS_MAX = 512,
    PACKETS_MAX = 4,
    CHUNK_STEP = 4096, /* as the library wants them */
};

void tune_shape_text(const tune_shape_t *shape, char text[TUNE_SHAPE_TEXT]) {
    if (shape->algorithm == NULL) {
        snprintf(text, TUNE_SHAPE_TEXT, "auto");
    } else if (shape->threads > 0) {
        snprintf(text, TUNE_SHAPE_TEXT, "%.16s:%d:%d:%d", shape->algorithm, shape->packets, shape->threads,
                 shape->blocks);
    } else {
        snprintf(text, TUNE_SHAPE_TEXT, "%.14s:%zu:%s", shape->algorithm, shape->chunk_bytes,
                 shape->stream ? "stream" : "cached");
    }
}

static void add(tune_shapes_t *shapes, tune_shape_t shape) {
    if (shapes->count < TUNE_SHAPES) shapes->all[shapes->count++] = shape;
}

/* ---- on hosts ---- */

/* It works on registered buffers alone. */
static bool cuts_nothing(const char *algorithm) { return strcmp(algorithm, "direct") == 0; }

static void add_pieces(tune_shapes_t *shapes, const char *algorithm, size_t chunk) {
    add(shapes, (tune_shape_t){.algorithm = algorithm, .chunk_bytes = chunk});
    add(shapes, (tune_shape_t){.algorithm = algorithm, .chunk_bytes = chunk, .stream = true});
}

void tune_shapes_on_host(bool registered, tune_shapes_t *shapes) {
    /* For messages smaller than all chunks these are the same, and the first is taken. */
    static const size_t chunks[] = {64 * KIB, 128 * KIB, 256 * KIB, 32 * KIB};
    const char *name;
    shapes->count = shapes->preferred = 0;
    for (int a = 0; (name = onehop_algorithm_name(ONEHOP_DEVICE_HOST, a)) != NULL; a++) {
        if (registered && cuts_nothing(name)) add_pieces(shapes, name, 0);
    }
    for (int a = 0; (name = onehop_algorithm_name(ONEHOP_DEVICE_HOST, a)) != NULL; a++) {
        for (int c = 0; c < 4 && !cuts_nothing(name); c++) add_pieces(shapes, name, chunks[c]);
    }
}

/* ---- on GPUs ---- */

/* Data do not travel in packets there. */
static bool is_plain(const char *algorithm) {
    return strcmp(algorithm, "one_shot_pull") == 0 || strcmp(algorithm, "two_shot_pull") == 0 ||
           strcmp(algorithm, "two_shot_bulk") == 0;
}

static void add_launches(tune_shapes_t *shapes, const char *algorithm, int blocks) {
    int most = is_plain(algorithm) ? 1 : PACKETS_MAX;
    for (int packets = 1; packets <= most; packets *= 2) {
        for (int threads = THREADS_MIN; threads <= THREADS_MAX; threads *= 2) {
            add(shapes, (tune_shape_t){algorithm, packets, threads, blocks, 0, false});
        }
    }
}

void tune_shapes_on_gpu(int processors, int max_blocks, tune_shapes_t *shapes) {
    int most = max_blocks > 0 && max_blocks < processors ? max_blocks : processors;
    const int blocks[] = {most, processors / 2, processors / 4};
    const char *name;
    shapes->count = shapes->preferred = 0;
    for (int b = 0; b < 3; b++) {
        if (b > 0 && (blocks[b] >= most || blocks[b] < 1)) continue;
        for (int a = 0; (name = onehop_algorithm_name(ONEHOP_DEVICE_CUDA, a)) != NULL; a++) {
            add_launches(shapes, name, blocks[b]);
        }
    }
}

/* ---- what the library does ---- */

/* If no bound of the library is in the way. */
static bool comes_to(const tune_shape_t *shape, size_t bytes, const onehop_choice_t *choice) {
    if (strcmp(choice->algorithm, shape->algorithm) != 0) return false;
    if (shape->threads > 0) {
        return choice->packets == shape->packets && choice->threads == shape->threads &&
               choice->blocks <= shape->blocks;
    }
    size_t chunk = shape->chunk_bytes > 0 && shape->chunk_bytes < bytes ? shape->chunk_bytes : bytes;
    return choice->chunk_bytes == chunk && (choice->stream != 0) == shape->stream;
}

/* On GPUs: neither so large a shape that a few blocks do it all, nor so small that it takes many steps. */
bool tune_shape_is_sensible(const tune_shape_t *shape, const onehop_choice_t *choice) {
    bool smallest = shape->packets == 1 && shape->threads == THREADS_MIN;
    int least = shape->blocks < BLOCKS_MIN ? shape->blocks : BLOCKS_MIN;
    return shape->threads == 0 || (choice->steps <= STEPS_MAX && (smallest || choice->blocks >= least));
}

/* With as many blocks as any. */
static tune_shape_t shape_of(const tune_shapes_t *shapes, const onehop_choice_t *choice) {
    tune_shape_t shape = {.algorithm = choice->algorithm, .stream = choice->stream != 0};
    shape.packets = choice->packets;
    shape.threads = choice->threads;
    if (shape.threads > 0) {
        shape.blocks = shapes->all[0].blocks;
    } else if (!cuts_nothing(choice->algorithm)) {
        shape.chunk_bytes = (choice->chunk_bytes + CHUNK_STEP - 1) / CHUNK_STEP * CHUNK_STEP;
    }
    return shape;
}

void tune_shapes_prefer(tune_shapes_t *shapes, size_t bytes, const onehop_choice_t *choice) {
    int at = 0;
    while (at < shapes->count && !comes_to(&shapes->all[at], bytes, choice)) at++;
    if (at < shapes->preferred || shapes->preferred == TUNE_SHAPES) return;
    tune_shape_t shape = at < shapes->count ? shapes->all[at] : shape_of(shapes, choice);
    if (at == shapes->count && shapes->count < TUNE_SHAPES) shapes->count++;
    if (at == TUNE_SHAPES) at--; /* the last one gives way */
    memmove(&shapes->all[shapes->preferred + 1], &shapes->all[shapes->preferred],
            sizeof shape * (size_t)(at - shapes->preferred));
    shapes->all[shapes->preferred++] = shape;
}
