/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels themselves, without a GPU: random sequences of launches in random orders of execution, whose results must
 * be right to the bit; which way they take, by pages or directly between registered buffers; and what they say of ranks
 * that disagree or do not come.
 *
 * usage: test_kernels [SEED [SEQUENCES]]
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "emulator.h"
#include "shape.h"

enum { RANKS = OH_GPU_RANKS, USUAL_RANKS = 3, TEAMS = EMULATED_TEAMS, PAGES = TEAMS * EMULATED_PAGE_BYTES };
enum { FLOAT32 = 0, BFLOAT16 = 2, INT32 = 6, INT64 = 8, SUM = 0, MAX = 3, AVG = 4 };

typedef void kernel_fn(const oh_kernel_args_t);

#define EMULATED(name, nranks, algorithm, rank, part, dtype, op, packets, many, whole) extern "C" kernel_fn name;
#include "kernels.inc"
#undef EMULATED

struct kernel {
    kernel_fn *run;
    int nranks;
    char algorithm[24];
    int rank;
    size_t part;
    int dtype, op, packets, many, whole;
};
static const kernel kernels[] = {
#define EMULATED(name, nranks, algorithm, rank, part, dtype, op, packets, many, whole)                                 \
    {name, nranks, #algorithm, rank, part, dtype, op, packets, many, whole},
#include "kernels.inc"
#undef EMULATED
};

static bool is_packets(const kernel &k) { return strstr(k.algorithm, "push") != NULL; }

/* ---- ranks ---- */

enum { NOWHERE = 0x7fff };

static int nranks;
static std::vector<unsigned char> workspace[RANKS], control[RANKS];
static oh_registered_t registered[RANKS][OH_GPU_REGISTRATIONS];
static unsigned long long last_number; /* of a registration */

static void begin_ranks(int n) {
    nranks = n;
    last_number = 0;
    for (int r = 0; r < nranks; r++) {
        workspace[r].assign(EMULATED_PAGES_AT(nranks) + PAGES, 0);
        control[r].assign(4096, 0);
        memset(registered[r], 0, sizeof registered[r]);
        for (size_t at = OH_PACKETS_AT; at < EMULATED_NOTICES_AT(nranks); at += OH_PACKET) workspace[r][at + 15] = 0x80;
    }
}

static bool mailboxes_are_empty() {
    for (int r = 0; r < nranks; r++) {
        for (size_t at = OH_PACKETS_AT; at < EMULATED_NOTICES_AT(nranks); at += OH_PACKET) {
            unsigned int last;
            memcpy(&last, &workspace[r][at + 12], 4);
            if (last != 0x80000000u) return false;
        }
    }
    return true;
}

static bool counters_agree() {
    for (int r = 1; r < nranks; r++) {
        if (memcmp(workspace[0].data(), workspace[r].data(), TEAMS * OH_COUNTER) != 0) return false;
    }
    return true;
}

/* ---- registered buffers ---- */

static oh_registered_t *row_at(int rank, unsigned long long place) { return &registered[rank][OH_PLACE_ROW(place)]; }

/*
 * The place of what lies at `at`, in a registered buffer that begins somewhere before it. Others have none of it. No
 * number is given twice, though kept places may lead to a row that is another's now.
 */
static unsigned long long enroll(int rank, const unsigned char *at) {
    unsigned long long place;
    do place = OH_PLACE(last_number += 1 + emulator_draw(OH_GPU_REGISTRATIONS), 0);
    while (row_at(rank, place)->place != 0);
    const unsigned long long offset = emulator_draw(1000);
    for (int r = 0; r < nranks; r++) {
        oh_registered_t *row = row_at(r, place);
        row->place = place;
        for (unsigned long long &address : row->address) address = NOWHERE;
        row->address[rank] = (unsigned long long)(uintptr_t)at - offset;
    }
    return place + offset;
}

/* The row is empty, or has become that of another buffer. */
static void dismiss(unsigned long long place) {
    const unsigned long long next = OH_PLACE((unsigned long long)OH_GPU_REGISTRATIONS, 0);
    const bool empty = emulator_draw(2) == 0;
    for (int r = 0; r < nranks; r++) {
        oh_registered_t *row = row_at(r, place);
        row->place = empty ? 0 : row->place + next;
        row->address[r] = NOWHERE;
    }
}

/* ---- one operation ---- */

/* What a rank's buffers are; GONE: they were registered when the call was captured. */
enum knowledge { UNREGISTERED, REGISTERED, GONE };

enum { GUARD = 0x5A, SLACK = 64 };

struct operation {
    kernel like; /* of any rank */
    size_t count, units, bytes;
    unsigned int steps, blocks, threads;
    uint64_t seed;
    /* Of every rank: */
    std::vector<unsigned char> memory[RANKS];
    unsigned char *send[RANKS], *recv[RANKS];
    knowledge known[RANKS];
    unsigned long long send_place[RANKS], recv_place[RANKS];
    size_t wrong;
};

static size_t element_bytes(int dtype) { return dtype == INT64 ? 8 : dtype == BFLOAT16 ? 2 : 4; }

static size_t unit_bytes(const kernel &k) {
    const bool sentinel = k.dtype <= 3 && (k.op == SUM || k.op == AVG);
    if (!is_packets(k) || sentinel) return 16;
    return element_bytes(k.dtype) == 8 ? 8 : 12;
}

static size_t step_units(const kernel &k, unsigned int threads) {
    const size_t each = is_packets(k) ? (size_t)k.packets * threads : k.part;
    return strncmp(k.algorithm, "two", 3) == 0 ? each * (size_t)k.nranks : each;
}

/* Sizes as the selector makes them: all blocks have work in every step but the last. With pages, more blocks will do.
 */
static void size_operation(operation *o) {
    kernel &k = o->like;
    o->threads = is_packets(k) ? 32u << emulator_draw(2) : 64;
    const size_t each = step_units(k, o->threads), most = 1 + emulator_draw(TEAMS),
                 steps = k.many ? 2 + emulator_draw(7) : 1;
    const size_t least = (steps - 1) * most * each;
    o->units = least + 1 + emulator_draw(most * each);
    if (!is_packets(k)) o->units = 1 + emulator_draw(4 * most * each);
    const size_t shares = (o->units + each - 1) / each;
    o->steps = (unsigned int)((shares + most - 1) / most);
    o->blocks = (unsigned int)((shares + o->steps - 1) / o->steps);
    if (!is_packets(k) && emulator_draw(2) == 0) o->blocks = TEAMS;
    const size_t lanes = unit_bytes(k) / element_bytes(k.dtype);
    o->count = k.whole ? o->units * lanes : (o->units - 1) * lanes + 1 + emulator_draw(lanes);
    o->bytes = o->count * element_bytes(k.dtype);
}

static void put_value(int dtype, unsigned char *at, int value) {
    if (dtype == INT64) {
        long long v = value * 1000003LL;
        memcpy(at, &v, 8);
    } else if (dtype == INT32) {
        memcpy(at, &value, 4);
    } else {
        float v = value == 0 ? -0.0f : (float)value; /* -0 looks empty */
        unsigned int bits;
        memcpy(&bits, &v, 4);
        if (dtype == FLOAT32) memcpy(at, &bits, 4);
        if (dtype == BFLOAT16) memcpy(at, (unsigned char *)&bits + 2, 2);
    }
}

static int value_of(int rank, size_t i, uint64_t seed) {
    return (int)((i * 2654435761u + seed + (size_t)rank * 40503u) >> 7 & 7) - 3;
}

static void put_result(const kernel &k, unsigned char *at, size_t i, uint64_t seed) {
    int sum = 0, most = -100;
    for (int r = 0; r < nranks; r++) {
        int v = value_of(r, i, seed);
        sum += v;
        most = v > most ? v : most;
    }
    if (k.op == MAX) {
        put_value(k.dtype, at, most);
    } else if (k.op == AVG) {
        float v = (float)sum / (float)nranks;
        unsigned int bits;
        memcpy(&bits, &v, 4);
        bits = bits + 0x7fff + (bits >> 16 & 1);
        memcpy(at, (unsigned char *)&bits + 2, 2);
    } else if (sum == 0) {
        memset(at, 0, element_bytes(k.dtype)); /* +0 */
    } else {
        put_value(k.dtype, at, sum);
    }
}

static unsigned char *skewed(unsigned char *at, size_t skew) { return at + SLACK - (uintptr_t)at % 16 + skew; }

static void lay_out(operation *o, int rank, bool in_place, size_t send_skew, size_t recv_skew) {
    o->memory[rank].assign(2 * (o->bytes + 2 * SLACK), GUARD);
    unsigned char *first = o->memory[rank].data();
    o->recv[rank] = skewed(first, recv_skew);
    o->send[rank] = in_place ? o->recv[rank] : skewed(first + o->bytes + 2 * SLACK, send_skew);
}

/* Inputs of the n-th time that the operation runs. */
static void fill(operation *o, int rank, uint64_t n) {
    const size_t each = element_bytes(o->like.dtype);
    o->memory[rank].assign(o->memory[rank].size(), GUARD); /* of the same size: it stays where it is */
    for (size_t i = 0; i < o->count; i++) {
        put_value(o->like.dtype, o->send[rank] + i * each, value_of(rank, i, o->seed + 384 * n));
    }
}

/* Bytes that were written beside the buffers. */
static size_t count_stray(const operation &o, int rank) {
    size_t stray = 0;
    for (const unsigned char &byte : o.memory[rank]) {
        const bool of_send = &byte >= o.send[rank] && &byte < o.send[rank] + o.bytes;
        const bool of_recv = &byte >= o.recv[rank] && &byte < o.recv[rank] + o.bytes;
        stray += !of_send && !of_recv && byte != GUARD;
    }
    return stray;
}

static void judge(operation *o, int rank, uint64_t n) {
    const size_t each = element_bytes(o->like.dtype);
    for (size_t i = 0; i < o->count; i++) {
        unsigned char expected[8];
        put_result(o->like, expected, i, o->seed + 384 * n);
        o->wrong += memcmp(expected, o->recv[rank] + i * each, each) != 0;
    }
    o->wrong += count_stray(*o, rank);
}

static void tell(operation *o, int rank, knowledge known) {
    const bool in_place = o->recv[rank] == o->send[rank];
    o->known[rank] = known;
    o->send_place[rank] = o->recv_place[rank] = 0;
    if (known == UNREGISTERED) return;
    o->send_place[rank] = enroll(rank, o->send[rank]);
    o->recv_place[rank] = in_place ? o->send_place[rank] : enroll(rank, o->recv[rank]);
    if (known == GONE) dismiss(in_place || emulator_draw(2) == 0 ? o->send_place[rank] : o->recv_place[rank]);
}

static const kernel *find_kernel(const kernel &like, int rank) {
    for (const kernel &k : kernels) {
        if (k.nranks == like.nranks && strcmp(k.algorithm, like.algorithm) == 0 && k.rank == rank &&
            k.dtype == like.dtype && k.op == like.op && k.packets == like.packets && k.many == like.many &&
            k.whole == like.whole)
            return &k;
    }
    abort();
}

static void launch(operation *o, int rank, uint64_t timeout) {
    oh_kernel_args_t a = {};
    a.recv = o->recv[rank];
    a.send = o->send[rank];
    a.count = o->count;
    for (int r = 0; r < nranks; r++) a.workspace[r] = workspace[r].data();
    a.control = control[rank].data();
    a.timeout_ns = timeout;
    a.units = o->units;
    a.steps = o->steps;
    a.what = OH_WHAT(o->like.dtype, o->like.op);
    a.send_place = o->send_place[rank];
    a.recv_place = o->recv_place[rank];
    a.registered = registered[rank];
    kernel_fn *run = find_kernel(o->like, rank)->run;
    emulator_launch(rank, o->blocks, o->threads + (is_packets(o->like) ? OH_KEEPER : 0), [run, a] { run(a); });
}

/* Work of others in a rank's stream: a kernel that starts when the previous one has ended. */
static void launch_other(int stream, std::function<void()> work) {
    emulator_launch(stream, 1, 32, [work] {
        emulator_wait_for_previous();
        if (threadIdx.x == 0) work();
    });
}

/* ---- sequences ---- */

static const uint64_t FOREVER = UINT64_MAX;

static void make_operation(operation *o, const kernel &like, uint64_t seed) {
    o->like = like;
    o->seed = seed;
    o->wrong = 0;
    size_operation(o);
    const uint64_t way = emulator_draw(4); /* half of the time, all are alike */
    const bool aligned = like.whole || emulator_draw(2) == 0;
    for (int r = 0; r < nranks; r++) {
        const bool in_place = way < 2 ? way == 0 : emulator_draw(2) == 0;
        lay_out(o, r, in_place, aligned ? 0 : emulator_draw(16), aligned ? 0 : emulator_draw(16));
        fill(o, r, 0);
    }
}

static void tell_all(operation *o) {
    const uint64_t way = emulator_draw(4);
    for (int r = 0; r < nranks; r++) {
        if (way == 0) tell(o, r, UNREGISTERED);
        if (way == 1) tell(o, r, REGISTERED);
        if (way == 2) tell(o, r, GONE);
        if (way == 3) tell(o, r, emulator_draw(8) == 0 ? UNREGISTERED : emulator_draw(8) == 0 ? GONE : REGISTERED);
    }
}

/*
 * Queues the operation, as often as a replayed graph may have it. Its inputs come from the kernel before it, its
 * results are wanted by the one behind, and both buffers are then used for something else.
 */
static void queue_apart(operation *o, int rank, uint64_t times) {
    for (uint64_t n = 0; n < times; n++) {
        launch_other(rank, [o, rank, n] { fill(o, rank, n); });
        launch(o, rank, FOREVER);
        launch_other(rank, [o, rank, n] {
            judge(o, rank, n);
            memset(o->send[rank], 0x11, o->bytes);
            memset(o->recv[rank], 0x11, o->bytes);
        });
    }
}

static const kernel &draw_kernel() {
    for (;;) {
        const kernel &k = kernels[emulator_draw(sizeof kernels / sizeof kernels[0])];
        if (k.nranks == nranks) return k;
    }
}

static void describe(const operation &o, size_t number) {
    printf("  operation %zu: %s, dtype %d, op %d, %zu elements, %u steps of %u blocks of %u threads, %d packets, %s:"
           " %zu wrong; ranks:",
           number, o.like.algorithm, o.like.dtype, o.like.op, o.count, o.steps, o.blocks, o.threads, o.like.packets,
           o.like.whole ? "whole" : "not whole", o.wrong);
    static const char *const known[] = {"unregistered", "registered", "gone"};
    for (int r = 0; r < nranks; r++) {
        printf(" %s%s", known[o.known[r]], o.send[r] == o.recv[r] ? " in place" : "");
    }
    printf("\n");
}

static bool run_sequence(uint64_t seed) {
    emulator_seed(seed);
    begin_ranks(emulator_draw(2) == 0 ? (int)USUAL_RANKS
                                      : kernels[emulator_draw(sizeof kernels / sizeof kernels[0])].nranks);
    std::vector<operation> operations(2 + emulator_draw(5));
    std::vector<uint64_t> times(operations.size()); /* 0: once, with nothing between it and its neighbours */
    for (size_t i = 0; i < operations.size(); i++) {
        operation &o = operations[i];
        make_operation(&o, draw_kernel(), seed + 128 * i);
        tell_all(&o);
        times[i] = emulator_draw(4);
    }
    for (int r = 0; r < nranks; r++) {
        for (size_t i = 0; i < operations.size(); i++) {
            operation *o = &operations[i];
            if (times[i] == 0) launch(o, r, FOREVER);
            queue_apart(o, r, times[i]);
        }
    }
    const bool ended = emulator_run(40000000);
    bool good = ended;
    for (size_t i = 0; i < operations.size(); i++) {
        operation &o = operations[i];
        for (int r = 0; r < nranks && ended && times[i] == 0; r++) judge(&o, r, 0);
        good = good && o.wrong == 0;
        if (o.wrong > 0 || !ended) describe(o, i + 1);
    }
    if (!ended) printf("  hangs\n");
    if (good && !mailboxes_are_empty()) good = printf("  mailboxes are not empty\n") < 0;
    if (good && !counters_agree()) good = printf("  counters differ\n") < 0;
    if (!good) printf("seed %llu, %d ranks: failed\n", (unsigned long long)seed, nranks);
    return good;
}

/* ---- ways ---- */

static bool check(bool good, const char *what, const char *algorithm, uint64_t seed) {
    if (!good) printf("%s, %s, %d ranks: failed, seed %llu\n", what, algorithm, nranks, (unsigned long long)seed);
    return good;
}

enum { UNTOUCHED = 0xEE };

/* Runs the operation alone; whether pages were written. */
static bool touches_pages(operation *o, uint64_t n) {
    for (int r = 0; r < nranks; r++) {
        fill(o, r, n);
        memset(workspace[r].data() + EMULATED_PAGES_AT(nranks), UNTOUCHED, PAGES);
        launch(o, r, FOREVER);
    }
    if (!emulator_run(40000000)) o->wrong++;
    bool touched = false;
    for (int r = 0; r < nranks; r++) {
        judge(o, r, n);
        for (size_t i = 0; i < PAGES; i++)
            touched = touched || workspace[r][EMULATED_PAGES_AT(nranks) + i] != UNTOUCHED;
    }
    return touched;
}

struct way {
    const char *name;
    bool direct, in_place;
    knowledge known; /* of all ranks */
    knowledge odd;   /* but of one */
    size_t skew;     /* of that one's recvbuf */
};

/* An operation goes the one way or the other; what is GONE, directly once it is registered anew. */
static bool test_way(const kernel &like, const way &w, uint64_t seed) {
    operation o = {};
    const int odd = (int)emulator_draw((uint64_t)nranks);
    const bool all_in_place = strcmp(like.algorithm, "one_shot_pull") != 0;
    make_operation(&o, like, seed);
    for (int r = 0; r < nranks; r++) {
        lay_out(&o, r, w.in_place && (all_in_place || r == odd), 0, r == odd ? w.skew : 0);
        tell(&o, r, r == odd ? w.odd : w.known);
    }
    const bool alone = nranks == 1 && strcmp(like.algorithm, "two_shot_bulk") == 0; /* has no use for pages */
    const bool direct = w.direct && (all_in_place || !w.in_place);
    bool good = touches_pages(&o, 0) == (!direct && !alone);
    for (int r = 0; r < nranks; r++) {
        if (o.known[r] == GONE) tell(&o, r, REGISTERED);
    }
    if (w.odd == GONE) good = !touches_pages(&o, 1) && good;
    good = check(good, w.name, like.algorithm, seed);
    if (o.wrong > 0) describe(o, 1);
    return good && o.wrong == 0;
}

/* Replayed between kernels that write its inputs and take its results. */
static bool test_replays(const kernel &like, uint64_t seed) {
    operation o = {};
    make_operation(&o, like, seed);
    const bool in_place = strcmp(like.algorithm, "one_shot_pull") != 0 && emulator_draw(2) == 0;
    for (int r = 0; r < nranks; r++) {
        lay_out(&o, r, in_place, 0, 0);
        tell(&o, r, REGISTERED);
        queue_apart(&o, r, 4);
    }
    const bool ended = emulator_run(40000000);
    if (!ended || o.wrong > 0) describe(o, 1);
    return check(ended && o.wrong == 0, "replays", like.algorithm, seed);
}

static bool test_ways(uint64_t seed) {
    static const way ways[] = {
        {"registered", true, false, REGISTERED, REGISTERED, 0},
        {"registered, in place", true, true, REGISTERED, REGISTERED, 0},
        {"no longer registered", false, false, GONE, GONE, 0},
        {"one no longer registered", false, false, REGISTERED, GONE, 0},
        {"unregistered", false, false, UNREGISTERED, UNREGISTERED, 0},
        {"one unregistered", false, false, REGISTERED, UNREGISTERED, 0},
        {"one skewed", false, false, REGISTERED, REGISTERED, 4},
    };
    bool good = true;
    for (const kernel &k : kernels) {
        if (k.rank != 0) continue;
        for (const way &w : ways) {
            if (is_packets(k) || (k.whole && w.skew > 0)) continue;
            emulator_seed(seed++);
            begin_ranks(k.nranks);
            good = test_way(k, w, seed) && good;
        }
        emulator_seed(seed++);
        begin_ranks(k.nranks);
        good = test_replays(k, seed) && good;
    }
    return good;
}

/* ---- faults ---- */

static const oh_report_t *report_of(int rank) {
    return (const oh_report_t *)(const void *)&control[rank][OH_REPORT_AT];
}

/* What the watcher does: a report of any rank poisons all. Returns who reported; -1: nobody, or kernels go on. */
static int run_until_reported() {
    int who = -1;
    for (int slice = 0; slice < 4000; slice++) {
        bool ended = emulator_run(100000);
        for (int r = 0; r < nranks && who < 0; r++) {
            if (report_of(r)->ready) who = r;
        }
        for (int r = 0; r < nranks && who >= 0; r++) control[r][0] = 1;
        if (ended) return who;
    }
    return -1;
}

static void make_simple(operation *o, const char *algorithm, int many, uint64_t seed) {
    for (const kernel &k : kernels) {
        if (k.nranks == nranks && strcmp(k.algorithm, algorithm) == 0 && k.dtype == FLOAT32 && k.whole &&
            k.many == many && k.packets == 1) {
            make_operation(o, k, seed);
        }
    }
    for (int r = 0; r < nranks; r++) tell(o, r, REGISTERED);
}

/* Rank 2 does not come: each of the others, which nobody tells, waits for its time once, and says for what. */
static bool test_late(const char *algorithm, int many, uint64_t seed) {
    const uint64_t timeout = 2000000;
    emulator_seed(seed);
    begin_ranks(USUAL_RANKS);
    operation o = {};
    make_simple(&o, algorithm, many, seed);
    for (int r = 0; r < nranks - 1; r++) launch(&o, r, timeout);
    const uint64_t begin = emulator_ns();
    while (!emulator_run(10000) && emulator_ns() - begin < 3 * timeout) {
    }
    bool good = check(emulator_ns() - begin < timeout + timeout / 2, "a late rank, in time", algorithm, seed);
    for (int r = 0; r < nranks - 1 && good; r++) {
        const oh_report_t *report = report_of(r);
        const unsigned kind = strstr(algorithm, "push") != NULL ? OH_REPORT_DATA : OH_REPORT_BARRIER;
        good = check(report->ready && report->rank == USUAL_RANKS - 1 && report->operation == 1 && report->kind == kind,
                     "a late rank", algorithm, seed);
    }
    return good;
}

/* Rank 1's third call has another count than the others'; nobody writes behind the end of another's buffer. */
static bool test_mismatch(const char *algorithm, int many, uint64_t seed) {
    emulator_seed(seed);
    begin_ranks(USUAL_RANKS);
    operation same[5] = {}, other = {};
    for (operation &o : same) make_simple(&o, algorithm, many, seed);
    do make_simple(&other, algorithm, many, seed);
    while (other.count == same[2].count);
    for (int r = 0; r < nranks; r++) {
        for (int i = 0; i < 5; i++) launch(i == 2 && r == 1 ? &other : &same[i], r, FOREVER);
    }
    int who = run_until_reported();
    if (!check(who >= 0, "ranks that disagree", algorithm, seed)) return false;
    for (int r = 0; r < nranks; r++) {
        if (!check(count_stray(r == 1 ? other : same[2], r) == 0, "writes of ranks that disagree", algorithm, seed))
            return false;
    }
    const oh_report_t *report = report_of(who);
    const bool one_is_other = report->mine.count == other.count || report->theirs.count == other.count;
    return check(report->kind == OH_REPORT_MISMATCH && report->operation == 3 && one_is_other,
                 "what ranks that disagree say", algorithm, seed);
}

int main(int argc, char **argv) {
    const uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
    const int sequences = argc > 2 ? atoi(argv[2]) : 24;
    printf("seed %llu, %d sequences of launches, %zu kernels\n", (unsigned long long)seed, sequences,
           sizeof kernels / sizeof kernels[0]);
    bool good = true;
    for (int i = 0; i < sequences && good; i++) good = run_sequence(seed + (uint64_t)i);
    good = test_ways(seed) && good;
    static const char *const algorithms[] = {"one_shot_push", "two_shot_push", "one_shot_pull", "two_shot_pull",
                                             "two_shot_bulk"};
    for (const char *algorithm : algorithms) {
        for (int many = 0; many < (strstr(algorithm, "push") != NULL ? 2 : 1); many++) {
            good = test_late(algorithm, many, seed) && good;
            good = test_mismatch(algorithm, many, seed) && good;
        }
    }
    printf("%s\n", good ? "all right" : "FAILED");
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
