/* SPDX-License-Identifier: Apache-2.0 */
/* Which shape is best from which size on: a pure function of what was measured. */
#ifndef CLI_TUNE_CHOOSE_H
#define CLI_TUNE_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>

/* One shape at one size. */
typedef struct tune_point {
    double us;     /* 0: not measured */
    double noise;  /* how far repetitions were from it, as a part of it */
    bool in_force; /* what the library would do by itself */
    size_t until;  /* messages up to here take as many steps */
} tune_point_t;

/* Sizes first ... last, counted from 0, get the shape; messages do from `from_bytes` on. */
typedef struct tune_pick {
    int shape, first, last;
    size_t from_bytes;
} tune_pick_t;

/*
 * points[shape * nsizes + size]; the sizes ascend. What is in force stays unless another shape wins by more than the
 * noise; and a shape stays from one size to the next as long as none is better by more than a little. Of several shapes
 * that are good enough, the one that stays longest is taken, and of those the fastest. Sizes at which nothing was
 * measured belong to the row before. Between two sizes a pick lasts to the middle, but not into another step. Returns
 * the number of picks, at most nsizes; 0: nothing was measured.
 */
int tune_choose(const size_t *sizes, int nsizes, const tune_point_t *points, int nshapes, tune_pick_t *picks);

#endif
