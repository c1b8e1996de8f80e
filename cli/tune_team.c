/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ranks of `onehop tune`. All but rank 0 wait for its orders, which come through the communicator that all have in
 * common, as the library makes it by itself. What is measured is another one, made for each shape.
 */
#include <stdlib.h>
#include <string.h>

#include "bench_gpu.h"
#include "clock.h"
#include "data.h"
#include "device.h"
#include "memory.h"
#include "say.h"
#include "tune.h"

static const double series_us = 15e3;

struct tune_team {
    rank_t *rank;
    const tune_options_t *options;
    bench_options_t bench; /* dtype is that of the table */
    int max_blocks;
    rank_t branch; /* what is measured */
    bool branched;
    char shape[TUNE_SHAPE_TEXT]; /* its */
    gpu_bench_t gpu;
    void *send, *recv; /* on hosts; if they are registered, the branch's own */
    uint64_t seed;
};

/* ---- memory ---- */

static bool get_buffers(tune_team_t *team, rank_t *owner) {
    size_t bytes = team->bench.max_bytes;
    team->send = memory_get(owner, bytes, team->bench.registered);
    if (team->send != NULL) team->recv = memory_get(owner, bytes, team->bench.registered);
    return team->recv != NULL;
}

static void drop_buffers(tune_team_t *team) {
    if (!team->bench.registered) { /* the others end with their communicator */
        free(team->send);
        free(team->recv);
    }
    team->send = team->recv = NULL;
}

/* ---- a shape ---- */

static bool leave_shape(tune_team_t *team) {
    if (!team->branched) return true;
    if (team->bench.registered) drop_buffers(team);
    team->branched = false;
    return rank_branch_end(&team->branch);
}

static bool take_shape(tune_team_t *team, const char *shape) {
    onehop_config_t config = ONEHOP_CONFIG_INIT;
    config.algorithm = shape;
    config.max_blocks = team->max_blocks;
    config.timeout_ms = team->options->ranks.timeout_ms;
    if (!leave_shape(team) || !rank_branch(team->rank, &config, &team->branch)) return false;
    team->branched = true;
    snprintf(team->shape, sizeof team->shape, "%s", shape);
    team->gpu.rank = &team->branch;
    return !team->bench.registered || get_buffers(team, &team->branch);
}

/* ---- a size ---- */

static bool measure_on_gpu(tune_team_t *team, size_t count, bool verify, uint64_t *wrong, double *us) {
    gpu_subject_t subject = {.buffers = &team->gpu.ours, .count = count};
    bench_time_t time = {0};
    bool good = (!verify || gpu_bench_verify(&team->gpu, &subject, data_mix(team->seed++), false, wrong)) &&
                gpu_bench_time(&team->gpu, &subject, &time);
    *us = time.median_us;
    return good;
}

static bool measure_on_host(tune_team_t *team, size_t count, bool verify, uint64_t *wrong, double *us) {
    bench_call_t call = {team->send, team->recv, count, team->bench.dtype, team->bench.op};
    return (!verify || bench_verify(&team->branch, &call, data_mix(team->seed++), wrong)) &&
           bench_median(&team->branch, &call, series_us, us);
}

static bool measure(tune_team_t *team, size_t bytes, bool verify, double *us) {
    size_t count = bytes / onehop_dtype_size(team->bench.dtype);
    uint64_t wrong = 0;
    if (!(team->rank->gpu != NULL ? measure_on_gpu : measure_on_host)(team, count, verify, &wrong, us)) return false;
    if (wrong == 0) return true;
    return rank_fail(team->rank, "%llu elements of %zu bytes were wrong with %s", (unsigned long long)wrong, bytes,
                     team->shape);
}

/* ---- orders ---- */

typedef enum order_kind { ORDER_END = 1, ORDER_SHAPE, ORDER_SIZE, ORDER_SIZE_AGAIN } order_kind_t;

typedef struct order {
    uint64_t kind, bytes;
    char shape[TUNE_SHAPE_TEXT];
} order_t;

/* Rank 0 says it, all others hear it. */
static bool pass_on(tune_team_t *team, order_t *order) {
    if (team->rank->rank != 0) memset(order, 0, sizeof *order);
    return rank_all_reduce_host(team->rank, order, sizeof *order, ONEHOP_UINT8, ONEHOP_MAX);
}

bool tune_order_shape(tune_team_t *team, const tune_shape_t *shape) {
    order_t order = {.kind = ORDER_SHAPE};
    tune_shape_text(shape, order.shape);
    return pass_on(team, &order) && take_shape(team, order.shape);
}

bool tune_explain(tune_team_t *team, size_t bytes, onehop_choice_t *choice) {
    const bench_options_t *o = &team->bench;
    choice->size = sizeof *choice;
    return rank_try(team->rank, onehop_comm_explain(team->branch.comm, bytes / onehop_dtype_size(o->dtype), o->dtype,
                                                    o->op, o->registered, choice));
}

bool tune_order_size(tune_team_t *team, size_t bytes, bool again, tune_measured_t *measured) {
    order_t order = {.kind = again ? ORDER_SIZE_AGAIN : ORDER_SIZE, .bytes = bytes};
    onehop_comm_info_t info = {.size = sizeof info};
    memset(measured, 0, sizeof *measured);
    if (!pass_on(team, &order) || !measure(team, bytes, !again, &measured->us) ||
        !rank_try(team->rank, onehop_comm_get_info(team->branch.comm, &info)))
        return false;
    if (info.placement != NULL) snprintf(measured->placement, TUNE_NAME, "%s", info.placement);
    return tune_explain(team, bytes, &measured->choice);
}

static bool obey(tune_team_t *team, const order_t *order) {
    double us;
    if (order->kind == ORDER_SHAPE) return take_shape(team, order->shape);
    return measure(team, order->bytes, order->kind == ORDER_SIZE, &us);
}

static bool follow(tune_team_t *team) {
    order_t order;
    while (pass_on(team, &order)) {
        if (order.kind == ORDER_END) return true;
        if (!obey(team, &order)) return false;
    }
    return false;
}

/* ---- a table ---- */

static bool describe(const tune_team_t *team, tune_key_t *key) {
    const bench_options_t *o = &team->bench;
    onehop_comm_info_t info = {.size = sizeof info};
    if (!rank_try(team->rank, onehop_comm_get_info(team->rank->comm, &info))) return false;
    *key = (tune_key_t){info.device, info.nranks, "", "", o->dtype, team->max_blocks, "", o->registered};
    if (info.links != NULL) snprintf(key->links, TUNE_NAME, "%s", info.links);
    if (info.device_name != NULL) snprintf(key->gpu, TUNE_NAME, "%s", info.device_name);
    return true;
}

static void print_plan(const tune_table_t *table, const sizes_t *sizes, const tune_shapes_t *shapes) {
    char key[TUNE_KEY_TEXT], text[TUNE_SHAPE_TEXT];
    tune_key_text(&table->key, key);
    printf("%s: %d sizes from %zu to %zu bytes, %d shapes\n", key, sizes->count, sizes->bytes[0],
           sizes->bytes[sizes->count - 1], shapes->count);
    for (int s = 0; s < shapes->count; s++) {
        tune_shape_text(&shapes->all[s], text);
        printf(s % 4 == 3 || s == shapes->count - 1 ? "  %s\n" : "  %-28s", text);
    }
}

/* Rank 0's part. */
static bool lead(tune_team_t *team, int64_t end_ns, tune_found_t *found) {
    const sizes_t *sizes = &team->options->bench.sizes;
    rank_t *rank = team->rank;
    tune_shapes_t shapes;
    tune_table_t *table = &found->tables[found->count];
    if (found->count == found->room || !describe(team, &table->key)) return false;
    if (rank->gpu != NULL) {
        tune_shapes_on_gpu(gpu_processors(rank->gpu), team->max_blocks, &shapes);
    } else {
        tune_shapes_on_host(team->bench.registered, &shapes);
    }
    if (team->options->dry_run) {
        print_plan(table, sizes, &shapes);
        return rank_printed(rank);
    }
    bool good = tune_search(rank, team, sizes, &shapes, end_ns, table);
    found->count++;
    progress_clear();
    return good;
}

static bool make_table(tune_team_t *team, int64_t end_ns, tune_found_t *found) {
    bool keeps = team->rank->gpu == NULL && !team->bench.registered && !team->options->dry_run, good = true;
    if (keeps) good = get_buffers(team, team->rank);
    if (good && team->rank->rank != 0) good = follow(team);
    if (good && team->rank->rank == 0) {
        order_t end = {.kind = ORDER_END};
        good = lead(team, end_ns, found) && pass_on(team, &end);
    }
    good = leave_shape(team) && good;
    drop_buffers(team);
    return good;
}

/* ---- all tables of one number of ranks ---- */

static bool fits_device(rank_t *rank, const tune_options_t *o) {
    const char *wish = o->dtypes.count > 0              ? "--dtype"
                       : o->max_blocks.count > 0        ? "--max-blocks"
                       : o->neighbour != TUNE_NOT_GIVEN ? "--neighbour"
                                                        : NULL;
    return rank->gpu != NULL || wish == NULL || rank_fail(rank, "%s needs GPUs: the device is host", wish);
}

static bool tune_hosts(tune_team_t *team, const tune_run_t *run) {
    for (int registered = 0; registered < TUNE_HOST_TABLES; registered++) {
        int64_t now = now_ns();
        team->bench.registered = registered;
        if (!make_table(team, now + (run->end_ns - now) / (TUNE_HOST_TABLES - registered), run->found)) return false;
    }
    return true;
}

static bool tune_gpus(tune_team_t *team, const tune_run_t *run) {
    const tune_options_t *o = run->options;
    int ndtypes = tune_wanted(o->dtypes.count), nbounds = tune_wanted(o->max_blocks.count);
    if (!o->dry_run && !gpu_bench_open(&team->gpu, team->rank, &team->bench)) return false;
    bool good = true;
    for (int i = 0; i < ndtypes * nbounds && good; i++) {
        int64_t now = now_ns();
        team->bench.dtype = o->dtypes.count > 0 ? o->dtypes.values[i / nbounds] : ONEHOP_BFLOAT16;
        team->max_blocks = o->max_blocks.count > 0 ? o->max_blocks.values[i % nbounds] : 0;
        good = make_table(team, now + (run->end_ns - now) / (ndtypes * nbounds - i), run->found);
    }
    if (!o->dry_run) gpu_bench_close(&team->gpu);
    return good;
}

bool tune_rank(rank_t *rank, void *ctx) {
    const tune_run_t *run = ctx;
    tune_team_t team = {.rank = rank, .options = run->options, .bench = run->options->bench};
    team.seed = team.bench.seed;
    if (!fits_device(rank, run->options) || !memory_suffices(rank, 2 * team.bench.max_bytes) ||
        !rank_agree(rank, &team.seed))
        return false;
    if (rank->rank == 0) run->found->was_first = true;
    return (rank->gpu != NULL ? tune_gpus : tune_hosts)(&team, run);
}
