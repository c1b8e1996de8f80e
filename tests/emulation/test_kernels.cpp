/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels themselves, without a GPU: random sequences of launches in random orders of execution, whose results must
 * be right to the bit; and what kernels say of ranks that disagree or do not come.
 *
 * usage: test_kernels [SEED [SEQUENCES]]
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "arena/device_layout.h"
#include "emulator.h"

enum { NRANKS = 3, TEAMS = 2, PAGES_AT = EMULATED_PAGES_AT, PAGE_BYTES = 2048 };
enum { FLOAT32 = 0, BFLOAT16 = 2, INT32 = 6, INT64 = 8, SUM = 0, MAX = 3, AVG = 4 };

typedef void kernel_fn(const oh_kernel_args_t);

#define EMULATED(name, algorithm, rank, dtype, op, packets, many, whole) extern "C" kernel_fn name;
#include "kernels.inc"
#undef EMULATED

struct kernel {
    kernel_fn *run;
    char algorithm[24];
    int rank, dtype, op, packets, many, whole;
};
static const kernel kernels[] = {
#define EMULATED(name, algorithm, rank, dtype, op, packets, many, whole)                                               \
    {name, #algorithm, rank, dtype, op, packets, many, whole},
#include "kernels.inc"
#undef EMULATED
};

/* ---- ranks ---- */

static std::vector<unsigned char> workspace[NRANKS], control[NRANKS];

static void begin_ranks() {
    for (int r = 0; r < NRANKS; r++) {
        workspace[r].assign(PAGES_AT + TEAMS * PAGE_BYTES, 0);
        control[r].assign(4096, 0);
        for (size_t at = OH_PACKETS_AT; at < PAGES_AT; at += OH_PACKET) workspace[r][at + 15] = 0x80;
    }
}

static bool mailboxes_are_empty() {
    for (int r = 0; r < NRANKS; r++) {
        for (size_t at = OH_PACKETS_AT; at < PAGES_AT; at += OH_PACKET) {
            unsigned int last;
            memcpy(&last, &workspace[r][at + 12], 4);
            if (last != 0x80000000u) return false;
        }
    }
    return true;
}

static bool counters_agree() {
    for (int r = 1; r < NRANKS; r++) {
        if (memcmp(workspace[0].data(), workspace[r].data(), TEAMS * OH_COUNTER) != 0) return false;
    }
    return true;
}

/* ---- one operation ---- */

struct operation {
    kernel like; /* of any rank */
    size_t count, units, bytes;
    unsigned int steps, blocks, threads;
    bool in_place;
    std::vector<unsigned char> send[NRANKS], recv[NRANKS];
    size_t shift[NRANKS]; /* misalignment */
};

static size_t element_bytes(int dtype) { return dtype == INT64 ? 8 : dtype == BFLOAT16 ? 2 : 4; }

static size_t unit_bytes(const kernel &k) {
    const bool packets = strstr(k.algorithm, "push") != NULL, sentinel = k.dtype <= 3 && (k.op == SUM || k.op == AVG);
    if (!packets || sentinel) return 16;
    return element_bytes(k.dtype) == 8 ? 8 : 12;
}

static size_t step_units(const kernel &k, unsigned int threads) {
    const size_t page = PAGE_BYTES / 16;
    if (strcmp(k.algorithm, "one_shot_pull") == 0) return page / 2;
    if (strcmp(k.algorithm, "two_shot_pull") == 0) return page / (NRANKS + 1) * NRANKS;
    if (strcmp(k.algorithm, "two_shot_bulk") == 0) return page / (2 * (NRANKS - 1)) * NRANKS;
    return (size_t)k.packets * threads * (strncmp(k.algorithm, "two", 3) == 0 ? NRANKS : 1);
}

static bool is_packets(const kernel &k) { return strstr(k.algorithm, "push") != NULL; }

/* Sizes as the selector makes them: all blocks have work in every step but the last. */
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
    for (int r = 0; r < NRANKS; r++) {
        int v = value_of(r, i, seed);
        sum += v;
        most = v > most ? v : most;
    }
    if (k.op == MAX) {
        put_value(k.dtype, at, most);
    } else if (k.op == AVG) {
        float v = (float)sum / NRANKS;
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

static void fill(operation *o, uint64_t seed) {
    for (int r = 0; r < NRANKS; r++) {
        o->shift[r] = o->like.whole ? 0 : emulator_draw(16);
        o->send[r].assign(o->bytes + 32, 0x5A);
        o->recv[r].assign(o->bytes + 32, 0x5A);
        auto &into = o->in_place ? o->recv[r] : o->send[r];
        for (size_t i = 0; i < o->count; i++) {
            put_value(o->like.dtype, &into[o->shift[r] + i * element_bytes(o->like.dtype)], value_of(r, i, seed));
        }
    }
}

static size_t count_wrong(const operation &o, uint64_t seed) {
    size_t wrong = 0, each = element_bytes(o.like.dtype);
    for (int r = 0; r < NRANKS; r++) {
        for (size_t i = 0; i < o.count; i++) {
            unsigned char expected[8];
            put_result(o.like, expected, i, seed);
            wrong += memcmp(expected, &o.recv[r][o.shift[r] + i * each], each) != 0;
        }
        for (size_t i = o.shift[r] + o.bytes; i < o.recv[r].size(); i++) wrong += o.recv[r][i] != 0x5A;
        for (size_t i = 0; i < o.shift[r]; i++) wrong += o.recv[r][i] != 0x5A;
    }
    return wrong;
}

static const kernel *find_kernel(const kernel &like, int rank) {
    for (const kernel &k : kernels) {
        if (strcmp(k.algorithm, like.algorithm) == 0 && k.rank == rank && k.dtype == like.dtype && k.op == like.op &&
            k.packets == like.packets && k.many == like.many && k.whole == like.whole)
            return &k;
    }
    abort();
}

static void launch(operation *o, int rank, uint64_t timeout) {
    oh_kernel_args_t a = {};
    a.recv = &o->recv[rank][o->shift[rank]];
    a.send = o->in_place ? a.recv : &o->send[rank][o->shift[rank]];
    a.count = o->count;
    for (int r = 0; r < NRANKS; r++) a.workspace[r] = workspace[r].data();
    a.control = control[rank].data();
    a.timeout_ns = timeout;
    a.units = o->units;
    a.steps = o->steps;
    a.what = OH_WHAT(o->like.dtype, o->like.op);
    kernel_fn *run = find_kernel(o->like, rank)->run;
    emulator_launch(rank, o->blocks, o->threads + (o->like.many ? 32 : 0), [run, a] { run(a); });
}

/* ---- sequences ---- */

static const uint64_t FOREVER = UINT64_MAX;

static bool run_sequence(uint64_t seed) {
    emulator_seed(seed);
    begin_ranks();
    std::vector<operation> operations(2 + emulator_draw(5));
    const size_t nkernels = sizeof kernels / sizeof kernels[0];
    for (operation &o : operations) {
        o.like = kernels[emulator_draw(nkernels)];
        o.in_place = emulator_draw(2) == 0;
        size_operation(&o);
        fill(&o, seed);
    }
    for (int r = 0; r < NRANKS; r++) {
        for (operation &o : operations) launch(&o, r, FOREVER);
    }
    bool ended = emulator_run(20000000), good = ended;
    for (size_t i = 0; i < operations.size(); i++) {
        const operation &o = operations[i];
        size_t wrong = ended ? count_wrong(o, seed) : 0;
        good = good && wrong == 0;
        if (wrong > 0 || !ended) {
            printf(
                "  operation %zu: %s, dtype %d, op %d, %zu elements, %u steps of %u blocks of %u threads, %d packets, "
                "%s%s: %zu wrong\n",
                i + 1, o.like.algorithm, o.like.dtype, o.like.op, o.count, o.steps, o.blocks, o.threads, o.like.packets,
                o.like.whole ? "whole" : "not whole", o.in_place ? ", in place" : "", wrong);
        }
    }
    if (!ended) printf("  hangs\n");
    if (good && !mailboxes_are_empty()) good = printf("  mailboxes are not empty\n") < 0;
    if (good && !counters_agree()) good = printf("  counters differ\n") < 0;
    if (!good) printf("seed %llu: failed\n", (unsigned long long)seed);
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
        for (int r = 0; r < NRANKS && who < 0; r++) {
            if (report_of(r)->ready) who = r;
        }
        for (int r = 0; r < NRANKS && who >= 0; r++) control[r][0] = 1;
        if (ended) return who;
    }
    return -1;
}

static operation make_operation(const char *algorithm, int many, uint64_t seed) {
    operation o;
    for (const kernel &k : kernels) {
        if (strcmp(k.algorithm, algorithm) == 0 && k.dtype == FLOAT32 && k.whole && k.many == many && k.packets == 1)
            o.like = k;
    }
    o.in_place = false;
    size_operation(&o);
    fill(&o, seed);
    return o;
}

static bool check(bool good, const char *what, const char *algorithm, uint64_t seed) {
    if (!good) printf("%s, %s: failed, seed %llu\n", what, algorithm, (unsigned long long)seed);
    return good;
}

/* Rank 2 does not come: each of the others, which nobody tells, waits for its time once, and says for what. */
static bool test_late(const char *algorithm, int many, uint64_t seed) {
    const uint64_t timeout = 2000000;
    emulator_seed(seed);
    begin_ranks();
    operation o = make_operation(algorithm, many, seed);
    for (int r = 0; r < NRANKS - 1; r++) launch(&o, r, timeout);
    const uint64_t begin = emulator_ns();
    while (!emulator_run(10000) && emulator_ns() - begin < 3 * timeout) {
    }
    bool good = check(emulator_ns() - begin < timeout + timeout / 2, "a late rank, in time", algorithm, seed);
    for (int r = 0; r < NRANKS - 1 && good; r++) {
        const oh_report_t *report = report_of(r);
        const unsigned kind = strstr(algorithm, "push") != NULL ? OH_REPORT_DATA : OH_REPORT_BARRIER;
        good = check(report->ready && report->rank == NRANKS - 1 && report->operation == 1 && report->kind == kind,
                     "a late rank", algorithm, seed);
    }
    return good;
}

/* Rank 1's third call has another count than the others'. */
static bool test_mismatch(const char *algorithm, int many, uint64_t seed) {
    emulator_seed(seed);
    begin_ranks();
    operation same[5];
    for (operation &o : same) o = make_operation(algorithm, many, seed);
    operation other = make_operation(algorithm, many, seed);
    while (other.count == same[2].count) other = make_operation(algorithm, many, seed);
    for (int r = 0; r < NRANKS; r++) {
        for (int i = 0; i < 5; i++) launch(i == 2 && r == 1 ? &other : &same[i], r, FOREVER);
    }
    int who = run_until_reported();
    if (!check(who >= 0, "ranks that disagree", algorithm, seed)) return false;
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
