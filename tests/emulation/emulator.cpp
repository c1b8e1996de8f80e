/* SPDX-License-Identifier: Apache-2.0 */
#include "emulator.h"

#include <ucontext.h>

#include <cstring>
#include <deque>
#include <memory>
#include <vector>

/* Variables of kernels marked __shared__ lie in this section; a block's copy is put there when one of its threads runs.
 */
extern "C" unsigned char __start_oh_shared[], __stop_oh_shared[];

namespace {

enum { STACK = 64 * 1024, WARP = 32, STREAMS = 16 };

/* Threads that meet: a round is over when all who still live have come. */
struct meeting {
    unsigned int living = 0, come = 0, round = 0;
    bool vote = true, outcome = true;

    void arrive(bool mine) {
        vote = vote && mine;
        if (++come >= living) end();
    }
    void leave() {
        living--;
        if (living > 0 && come >= living) end();
    }
    void end() {
        outcome = vote;
        vote = true;
        come = 0;
        round++;
    }
};

struct launch;

struct block {
    launch *of;
    unsigned int index;
    bool triggered = false;
    meeting all, arrivals;
    std::vector<meeting> warps;
    std::vector<unsigned char> shared;
};

struct coroutine {
    block *in;
    unsigned int thread;
    unsigned int weight; /* how often it is its turn: some are slow */
    bool ended = false;
    const meeting *met = nullptr; /* if it waits for the end of a round: of which */
    unsigned int round;
    const launch *previous = nullptr; /* if it waits for the end of that */
    ucontext_t context;
    std::vector<unsigned char> stack;
};

struct launch {
    unsigned int nblocks, nthreads;
    std::function<void()> body;
    launch *previous = nullptr;
    bool started = false;
    unsigned int living = 0;
    std::vector<std::unique_ptr<block>> blocks;
    std::vector<std::unique_ptr<coroutine>> threads;

    bool ended() const { return started && living == 0; }
    bool triggered() const {
        for (const auto &b : blocks) {
            if (!b->triggered) return false;
        }
        return started;
    }
};

struct state {
    uint64_t random = 1, steps = 0;
    std::deque<std::unique_ptr<launch>> stream[STREAMS];
    std::vector<std::unique_ptr<launch>> past;
    std::vector<coroutine *> ready;
    coroutine *self = nullptr;
    block *loaded = nullptr; /* whose shared memory is in place */
    ucontext_t scheduler;
} emulator;

} // namespace

emulated_index threadIdx, blockIdx, blockDim, gridDim;

void emulator_seed(uint64_t seed) {
    emulator = state();
    emulator.random = seed * 2 + 1;
}

uint64_t emulator_draw(uint64_t bound) {
    emulator.random ^= emulator.random << 13;
    emulator.random ^= emulator.random >> 7;
    emulator.random ^= emulator.random << 17;
    return emulator.random % bound;
}

uint64_t emulator_ns() { return emulator.steps; }

/* ---- in a coroutine ---- */

static void restore_indices(const coroutine *self) {
    threadIdx = {self->thread};
    blockIdx = {self->in->index};
    blockDim = {self->in->of->nthreads};
    gridDim = {self->in->of->nblocks};
}

void emulator_yield() {
    coroutine *self = emulator.self;
    swapcontext(&self->context, &emulator.scheduler);
}

static bool meet(meeting &m, bool vote) {
    coroutine *self = emulator.self;
    self->round = m.round;
    self->met = &m;
    m.arrive(vote);
    while (m.round == self->round) emulator_yield();
    self->met = nullptr;
    return m.outcome;
}

static meeting &own_warp() { return emulator.self->in->warps[emulator.self->thread / WARP]; }

void emulator_sync_block() { meet(emulator.self->in->all, true); }
bool emulator_sync_block_and(bool vote) { return meet(emulator.self->in->all, vote); }
void emulator_arrive() { emulator.self->in->arrivals.arrive(true); }
void emulator_wait_for_arrivals() { meet(emulator.self->in->arrivals, true); }
void emulator_sync_warp() { meet(own_warp(), true); }
bool emulator_sync_warp_and(bool vote) { return meet(own_warp(), vote); }

void emulator_launch_dependents() { emulator.self->in->triggered = true; }

void emulator_wait_for_previous() {
    coroutine *self = emulator.self;
    self->previous = self->in->of->previous;
    while (self->previous != nullptr && !self->previous->ended()) emulator_yield();
    self->previous = nullptr;
}

static void begin() {
    coroutine *self = emulator.self;
    self->in->of->body();
    self->in->all.leave();
    self->in->warps[self->thread / WARP].leave();
    self->in->of->living--;
    self->ended = true;
    swapcontext(&self->context, &emulator.scheduler);
}

/* ---- launches ---- */

void emulator_launch(int stream, unsigned int blocks, unsigned int threads, std::function<void()> thread) {
    auto l = std::make_unique<launch>();
    l->nblocks = blocks;
    l->nthreads = threads;
    l->body = std::move(thread);
    emulator.stream[stream].push_back(std::move(l));
}

static void start(launch *l) {
    l->started = true;
    l->living = l->nblocks * l->nthreads;
    for (unsigned int b = 0; b < l->nblocks; b++) {
        l->blocks.push_back(std::make_unique<block>());
        block *in = l->blocks.back().get();
        in->of = l;
        in->index = b;
        in->all.living = in->arrivals.living = l->nthreads; /* who has ended has arrived before */
        in->shared.resize((size_t)(__stop_oh_shared - __start_oh_shared));
        in->warps.resize(l->nthreads / WARP);
        for (meeting &warp : in->warps) warp.living = WARP;
        const bool slow_block = emulator_draw(4) == 0;
        unsigned int weight = 1;
        for (unsigned int t = 0; t < l->nthreads; t++) {
            if (t % WARP == 0) weight = emulator_draw(3) == 0 || slow_block ? 1 : 1 + (unsigned int)emulator_draw(60);
            auto c = std::make_unique<coroutine>();
            c->in = in;
            c->thread = t;
            c->weight = weight;
            c->stack.resize(STACK);
            getcontext(&c->context);
            c->context.uc_stack.ss_sp = c->stack.data();
            c->context.uc_stack.ss_size = c->stack.size();
            c->context.uc_link = nullptr;
            makecontext(&c->context, begin, 0);
            emulator.ready.push_back(c.get());
            l->threads.push_back(std::move(c));
        }
    }
}

/* The next kernel of a stream may start early; its predecessor's predecessor has ended by then. */
static bool advance_streams() {
    bool busy = false;
    for (auto &stream : emulator.stream) {
        while (!stream.empty() && stream.front()->ended()) {
            emulator.past.push_back(std::move(stream.front()));
            stream.pop_front();
        }
        if (stream.empty()) continue;
        busy = true;
        if (!stream[0]->started) start(stream[0].get());
        if (stream.size() > 1 && !stream[1]->started && stream[0]->triggered()) {
            stream[1]->previous = stream[0].get();
            start(stream[1].get());
        }
    }
    return busy;
}

static void use_shared(block *in) {
    if (emulator.loaded == in) return;
    const size_t bytes = (size_t)(__stop_oh_shared - __start_oh_shared);
    if (emulator.loaded != nullptr) memcpy(emulator.loaded->shared.data(), __start_oh_shared, bytes);
    memcpy(__start_oh_shared, in->shared.data(), bytes);
    emulator.loaded = in;
}

/* Nothing would come of its turn. */
static bool waits(const coroutine *c) {
    return (c->met != nullptr && c->met->round == c->round) || (c->previous != nullptr && !c->previous->ended());
}

static void turn(coroutine *c) {
    emulator.steps++;
    if (waits(c)) return;
    use_shared(c->in);
    for (unsigned int i = 0; i < c->weight && !c->ended && !waits(c); i++) {
        emulator.self = c;
        emulator.steps++;
        restore_indices(c);
        swapcontext(&emulator.scheduler, &c->context);
    }
    if (c->ended) c->stack = {};
}

bool emulator_run(uint64_t steps) {
    const uint64_t limit = emulator.steps + steps;
    while (advance_streams()) {
        if (emulator.steps > limit) return false;
        for (int i = 0; i < 64 && !emulator.ready.empty(); i++) {
            const size_t which = emulator_draw(emulator.ready.size());
            turn(emulator.ready[which]);
            if (!emulator.ready[which]->ended) continue;
            emulator.ready[which] = emulator.ready.back();
            emulator.ready.pop_back();
        }
    }
    return true;
}
