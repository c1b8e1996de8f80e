/* SPDX-License-Identifier: Apache-2.0 */
#include "tune_choose.h"

#include <math.h>

static const double a_little = 0.02;

typedef struct question {
    int nsizes, nshapes;
    const tune_point_t *points;
} question_t;

static const tune_point_t *point(const question_t *q, int shape, int size) {
    return &q->points[shape * q->nsizes + size];
}

static int best_at(const question_t *q, int size) {
    int best = -1;
    for (int s = 0; s < q->nshapes; s++) {
        double us = point(q, s, size)->us;
        if (us > 0 && (best < 0 || us < point(q, best, size)->us)) best = s;
    }
    return best;
}

/* Whether the shape may stay as what is in force at this size. */
static bool may_stay(const question_t *q, int shape, int size) {
    const tune_point_t *mine = point(q, shape, size), *best = point(q, best_at(q, size), size);
    double noise = fmax(a_little, fmax(mine->noise, best->noise));
    return mine->in_force && mine->us > 0 && mine->us <= best->us * (1 + noise);
}

static bool is_good(const question_t *q, int shape, int size) {
    double us = point(q, shape, size)->us;
    return (us > 0 && us <= point(q, best_at(q, size), size)->us * (1 + a_little)) || may_stay(q, shape, size);
}

/* The last size for which a shape is good from `first` on, and all between, or nothing was measured there. */
static int lasts_to(const question_t *q, int shape, int first) {
    int last = first;
    for (int i = first + 1; i < q->nsizes && (best_at(q, i) < 0 || is_good(q, shape, i)); i++) last = i;
    return last;
}

/* Among the shapes that may stay at this size; if there is none, among the good ones. */
static tune_pick_t pick_at(const question_t *q, int first) {
    tune_pick_t pick = {.shape = -1, .first = first};
    bool stays = false;
    for (int s = 0; s < q->nshapes; s++) stays |= may_stay(q, s, first);
    for (int s = 0; s < q->nshapes; s++) {
        if (!(stays ? may_stay(q, s, first) : is_good(q, s, first))) continue;
        int last = lasts_to(q, s, first);
        if (pick.shape >= 0 && last < pick.last) continue;
        if (pick.shape >= 0 && last == pick.last && point(q, s, first)->us >= point(q, pick.shape, first)->us) continue;
        pick.shape = s;
        pick.last = last;
    }
    return pick;
}

/* Where a pick ends, and the next one begins at the size after it. */
static size_t end_of(const question_t *q, const size_t *sizes, const tune_pick_t *pick) {
    size_t middle = (size_t)sqrt((double)sizes[pick->last] * (double)sizes[pick->last + 1]);
    size_t until = point(q, pick->shape, pick->last)->until;
    return until >= sizes[pick->last] && until < middle ? until + 1 : middle;
}

int tune_choose(const size_t *sizes, int nsizes, const tune_point_t *points, int nshapes, tune_pick_t *picks) {
    const question_t q = {nsizes, nshapes, points};
    int count = 0, first = 0;
    while (first < nsizes && best_at(&q, first) < 0) first++;
    while (first < nsizes) {
        tune_pick_t pick = pick_at(&q, first);
        if (count > 0) pick.from_bytes = end_of(&q, sizes, &picks[count - 1]);
        first = pick.last + 1;
        picks[count++] = pick;
    }
    return count;
}
