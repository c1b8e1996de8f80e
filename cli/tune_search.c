/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What rank 0 has the ranks measure for one table. First what is in force; then every shape once, those first that what
 * is in force comes to, each from its smallest size up and from its largest down until it has lost by much twice; then,
 * for each size, what is in force and the best in turn, several times over. Where shapes come to the same launch, one
 * is measured for all. Where processors move meanwhile, it is measured again, and only that counts which was measured
 * where most was.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "samples.h"
#include "say.h"
#include "tune.h"
#include "tune_choose.h"

enum {
    REPETITIONS = 5,
    FINALISTS = 6,
    LOSSES = 2,
    PLACEMENTS = 4,
    ATTEMPTS = 3, /* of a measurement where most were made */
};
static const double lost_by = 1.5, close_to_best = 1.05, first_part = 0.6; /* of the time */

/* One measurement. */
typedef struct sample {
    double us; /* 0: none */
    int placement;
    onehop_choice_t choice;
} sample_t;

/* A shape at a size. */
typedef struct cell {
    bool fits;              /* the algorithm can be used there */
    onehop_choice_t choice; /* and how it is; the library may have bounds on that */
    size_t until;           /* as in tune_point_t */
    int same_as;            /* the shape that is measured for this one: itself, or one before it */
    bool repeat;
    sample_t samples[1 + REPETITIONS]; /* the first is of the first part */
} cell_t;

typedef struct search {
    tune_team_t *team;
    tune_table_t *table;
    const sizes_t *sizes;
    tune_shapes_t *shapes; /* but counted from 1: shape 0 is what is in force */
    cell_t *cells;
    double best[PLACEMENTS][SIZES_MAX]; /* of what was measured so far; 0: nothing */
    int64_t end_ns;                     /* of the part that is going on */
    char placements[PLACEMENTS][TUNE_NAME];
    int nplacements, counts[PLACEMENTS]; /* of measurements */
} search_t;

enum { IN_FORCE = 0, FIRST = 1 };

static int shapes_end(const search_t *s) { return FIRST + s->shapes->count; }

static tune_shape_t shape_at(const search_t *s, int shape) {
    return shape == IN_FORCE ? (tune_shape_t){0} : s->shapes->all[shape - FIRST];
}

static cell_t *cell(const search_t *s, int shape, int size) { return &s->cells[shape * s->sizes->count + size]; }

static bool is_late(const search_t *s) { return now_ns() >= s->end_ns; }

static int placement_index(search_t *s, const char *name) {
    for (int i = 0; i < s->nplacements; i++) {
        if (strcmp(s->placements[i], name) == 0) return i;
    }
    if (s->nplacements < PLACEMENTS) snprintf(s->placements[s->nplacements++], TUNE_NAME, "%s", name);
    return s->nplacements - 1;
}

/* Where most of the measurements were made so far; the others do not count. */
static int usual_placement(const search_t *s) {
    int usual = 0;
    for (int p = 1; p < PLACEMENTS; p++) {
        if (s->counts[p] > s->counts[usual]) usual = p;
    }
    return usual;
}

static bool measure_anywhere(search_t *s, int shape, int size, int repetition, bool again) {
    tune_measured_t measured;
    if (!tune_order_size(s->team, s->sizes->bytes[size], again || repetition > 0, &measured)) return false;
    int placement = placement_index(s, measured.placement);
    double *best = &s->best[placement][size];
    s->counts[placement]++;
    cell(s, shape, size)->samples[repetition] = (sample_t){measured.us, placement, measured.choice};
    if (measured.us > 0 && (*best <= 0 || measured.us < *best)) *best = measured.us; /* noise may leave less than 0 */
    return true;
}

static bool measure(search_t *s, int shape, int size, int repetition) {
    tune_shape_t measuring = shape_at(s, shape);
    char text[TUNE_SHAPE_TEXT], key[TUNE_KEY_TEXT];
    tune_shape_text(&measuring, text);
    tune_key_text(&s->table->key, key);
    progress_show("%s: shape %d of %d, %s, %zu bytes", key, shape, s->shapes->count, text, s->sizes->bytes[size]);
    bool counts = false;
    for (int i = 0; i < ATTEMPTS && !counts && (i == 0 || !is_late(s)); i++) {
        if (!measure_anywhere(s, shape, size, repetition, i > 0)) return false;
        counts = cell(s, shape, size)->samples[repetition].placement == usual_placement(s);
    }
    return true;
}

/* How many times as long it took as the best in the same placement; 0: it was not measured. */
static double behind(const search_t *s, int shape, int size) {
    const sample_t *sample = &cell(s, shape, size)->samples[0];
    return sample->us > 0 ? sample->us / s->best[sample->placement][size] : 0;
}

static bool order_shape(search_t *s, int shape) {
    tune_shape_t ordered = shape_at(s, shape);
    return tune_order_shape(s->team, &ordered);
}

/* ---- the first part ---- */

static bool same_launch(const onehop_choice_t *a, const onehop_choice_t *b) {
    return strcmp(a->algorithm, b->algorithm) == 0 && a->chunk_bytes == b->chunk_bytes && a->blocks == b->blocks &&
           a->threads == b->threads && a->packets == b->packets && a->steps == b->steps && a->stream == b->stream;
}

/* What was in force when it was measured first; NULL: it was not. It may change with time. */
static const onehop_choice_t *first_in_force(const search_t *s, int size) {
    const sample_t *sample = &cell(s, IN_FORCE, size)->samples[0];
    return sample->us > 0 ? &sample->choice : NULL;
}

static int find_same(const search_t *s, int shape, int size) {
    const onehop_choice_t *choice = &cell(s, shape, size)->choice, *before = first_in_force(s, size);
    if (before != NULL && same_launch(before, choice)) return IN_FORCE;
    for (int other = FIRST; other < shape; other++) {
        const cell_t *o = cell(s, other, size);
        if (o->fits && same_launch(&o->choice, choice)) return o->same_as;
    }
    return shape;
}

/* How far towards the next size a message may grow and still take as many steps. */
static bool find_until(search_t *s, int shape, int size) {
    cell_t *c = cell(s, shape, size);
    size_t low = s->sizes->bytes[size], high = size + 1 < s->sizes->count ? s->sizes->bytes[size + 1] : low + 1;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        onehop_choice_t choice;
        if (!tune_explain(s->team, middle, &choice)) return false;
        *(choice.steps == c->choice.steps ? &low : &high) = middle;
    }
    c->until = low;
    return true;
}

/* What the shape does at every size. */
static bool look(search_t *s, int shape) {
    for (int i = 0; i < s->sizes->count; i++) {
        cell_t *c = cell(s, shape, i);
        if (!tune_explain(s->team, s->sizes->bytes[i], &c->choice)) return false;
        c->fits = shape == IN_FORCE || strcmp(c->choice.algorithm, shape_at(s, shape).algorithm) == 0;
        const bool usable = c->fits && shape != IN_FORCE;
        c->same_as = usable ? find_same(s, shape, i) : shape;
        if (usable && !find_until(s, shape, i)) return false;
    }
    return true;
}

static bool is_to_measure(const search_t *s, int shape, int size) {
    const cell_t *c = cell(s, shape, size);
    tune_shape_t mine = shape_at(s, shape);
    return c->fits && c->same_as == shape && c->samples[0].us <= 0 && tune_shape_is_sensible(&mine, &c->choice);
}

/* From one size to the next, `step` on. */
static bool walk(search_t *s, int shape, int first, int step) {
    int losses = 0;
    for (int i = first; i >= 0 && i < s->sizes->count && losses < LOSSES && !is_late(s); i += step) {
        if (!is_to_measure(s, shape, i)) continue;
        if (!measure(s, shape, i, 0)) return false;
        losses = shape != IN_FORCE && behind(s, shape, i) > lost_by ? losses + 1 : 0;
    }
    return true;
}

static bool measure_once(search_t *s, int shape) {
    return order_shape(s, shape) && look(s, shape) && walk(s, shape, 0, 1) && walk(s, shape, s->sizes->count - 1, -1);
}

static bool measure_all_once(search_t *s) {
    if (!measure_once(s, IN_FORCE)) return false;
    for (int i = 0; i < s->sizes->count; i++) {
        const onehop_choice_t *before = first_in_force(s, i);
        if (before != NULL) tune_shapes_prefer(s->shapes, s->sizes->bytes[i], before);
    }
    s->table->skipped = s->table->shapes = s->shapes->count;
    for (int shape = FIRST; shape < shapes_end(s) && (shape < FIRST + s->shapes->preferred || !is_late(s)); shape++) {
        if (!measure_once(s, shape)) return false;
        if (!is_late(s)) s->table->skipped = shapes_end(s) - shape - 1;
    }
    return true;
}

/* ---- the second part ---- */

static int best_left(const search_t *s, int size) {
    int best = -1;
    for (int shape = FIRST; shape < shapes_end(s); shape++) {
        if (behind(s, shape, size) <= 0 || cell(s, shape, size)->repeat) continue;
        if (best < 0 || behind(s, shape, size) < behind(s, best, size)) best = shape;
    }
    return best;
}

/* What is in force, and what comes close to the best. */
static void choose_finalists(search_t *s, int size) {
    cell(s, IN_FORCE, size)->repeat = first_in_force(s, size) != NULL;
    for (int count = 0; count < FINALISTS; count++) {
        int next = best_left(s, size);
        if (next < 0 || behind(s, next, size) > close_to_best) break;
        cell(s, next, size)->repeat = true;
    }
}

static bool repeat_once(search_t *s, int repetition) {
    for (int shape = IN_FORCE; shape < shapes_end(s); shape++) {
        bool ordered = false;
        for (int i = 0; i < s->sizes->count; i++) {
            if (!cell(s, shape, i)->repeat) continue;
            if (is_late(s)) return true;
            if (!ordered && !order_shape(s, shape)) return false;
            ordered = true;
            if (!measure(s, shape, i, repetition)) return false;
        }
    }
    s->table->repetitions = repetition;
    return true;
}

static bool repeat_the_best(search_t *s) {
    for (int i = 0; i < s->sizes->count; i++) choose_finalists(s, i);
    for (int r = 1; r <= REPETITIONS && !is_late(s); r++) {
        if (!repeat_once(s, r)) return false;
    }
    return true;
}

/* ---- the table ---- */

/* What counts of one kind of launch at one size; the first samples were a reason to repeat, and say too little then. */
typedef struct evidence {
    int count;
    double us[2 * (1 + REPETITIONS)];
} evidence_t;

static void gather(const cell_t *c, const onehop_choice_t *launch, int placement, bool repeated, evidence_t *evidence) {
    for (int k = repeated ? 1 : 0; k <= (repeated ? REPETITIONS : 0); k++) {
        const sample_t *sample = &c->samples[k];
        if (sample->us <= 0 || sample->placement != placement) continue;
        if (launch == NULL || same_launch(&sample->choice, launch)) evidence->us[evidence->count++] = sample->us;
    }
}

static bool was_repeated(const search_t *s, int size, int placement) {
    evidence_t evidence = {0};
    for (int shape = IN_FORCE; shape < shapes_end(s) && s->table->repetitions > 0 && evidence.count == 0; shape++) {
        gather(cell(s, shape, size), NULL, placement, true, &evidence);
    }
    return evidence.count > 0;
}

static tune_point_t sum_up(evidence_t *evidence) {
    int n = evidence->count;
    double *us = evidence->us;
    if (n == 0) return (tune_point_t){0};
    samples_sort(us, n);
    double median = samples_median(us, n);
    return (tune_point_t){.us = median, .noise = (us[n - 1] - us[0]) / 2 / median};
}

static tune_point_t point_in_force(const search_t *s, int size, int placement) {
    evidence_t evidence = {0};
    gather(cell(s, IN_FORCE, size), NULL, placement, was_repeated(s, size, placement), &evidence);
    return sum_up(&evidence);
}

/* With what was measured of the same launch as what was in force, since that is what it is. */
static tune_point_t point_at(const search_t *s, int shape, int size, int placement) {
    const cell_t *c = cell(s, shape, size);
    bool repeated = was_repeated(s, size, placement);
    evidence_t evidence = {0};
    if (!c->fits) return (tune_point_t){0};
    gather(cell(s, IN_FORCE, size), &c->choice, placement, repeated, &evidence);
    bool in_force = evidence.count > 0;
    if (c->same_as != IN_FORCE) gather(cell(s, c->same_as, size), NULL, placement, repeated, &evidence);
    tune_point_t point = sum_up(&evidence);
    point.in_force = in_force;
    point.until = c->until;
    return point;
}

/* Of all shapes, where what is in force was measured too; false if nothing is that, or as fast, at one of these sizes.
 */
static bool find_points(const search_t *s, int placement, tune_point_t *points) {
    bool all = true;
    for (int i = 0; i < s->sizes->count; i++) {
        const tune_point_t before = point_in_force(s, i, placement);
        bool found = before.us <= 0;
        for (int shape = FIRST; shape < shapes_end(s) && before.us > 0; shape++) {
            tune_point_t point = point_at(s, shape, i, placement);
            points[(shape - FIRST) * s->sizes->count + i] = point;
            found |= point.in_force || (point.us > 0 && point.us <= before.us);
        }
        all &= found;
    }
    return all;
}

static void fill_row(const search_t *s, const tune_point_t *points, const tune_pick_t *pick, int placement,
                     tune_row_t *row) {
    int at = (pick->first + pick->last) / 2;
    const tune_point_t *mine = &points[pick->shape * s->sizes->count];
    while (at > pick->first && mine[at].us <= 0) at--;
    *row = (tune_row_t){.from_bytes = pick->from_bytes,
                        .shape = s->shapes->all[pick->shape],
                        .first_bytes = s->sizes->bytes[pick->first],
                        .last_bytes = s->sizes->bytes[pick->last],
                        .at_bytes = s->sizes->bytes[at],
                        .time_us = mine[at].us,
                        .before_us = point_in_force(s, at, placement).us};
}

static void fill_table(search_t *s, tune_point_t *points) {
    tune_table_t *table = s->table;
    tune_pick_t picks[SIZES_MAX];
    int placement = usual_placement(s);
    snprintf(table->key.placement, TUNE_NAME, "%s", s->placements[placement]);
    for (int p = 0; p < PLACEMENTS; p++) table->elsewhere += p != placement ? s->counts[p] : 0;
    if (!find_points(s, placement, points)) return;
    table->nrows = tune_choose(s->sizes->bytes, s->sizes->count, points, s->shapes->count, picks);
    for (int i = 0; i < table->nrows; i++) fill_row(s, points, &picks[i], placement, &table->rows[i]);
}

static bool search(search_t *s, int64_t end_ns) {
    int64_t now = now_ns();
    s->end_ns = now + (int64_t)(first_part * (double)(end_ns - now));
    if (!measure_all_once(s)) return false;
    s->end_ns = end_ns;
    return repeat_the_best(s);
}

bool tune_search(rank_t *rank, tune_team_t *team, const sizes_t *sizes, tune_shapes_t *shapes, int64_t end_ns,
                 tune_table_t *table) {
    search_t s = {.team = team, .table = table, .sizes = sizes, .shapes = shapes};
    size_t cells = (size_t)((FIRST + TUNE_SHAPES) * sizes->count);
    s.cells = calloc(cells, sizeof *s.cells);
    tune_point_t *points = calloc(cells, sizeof *points);
    bool good = s.cells != NULL && points != NULL;
    if (!good) rank_fail(rank, "no memory for the measurements");
    good = good && search(&s, end_ns);
    if (good) fill_table(&s, points);
    free(points);
    free(s.cells);
    return good;
}
