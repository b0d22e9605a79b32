// The threads of a block take turns on one thread of the CPU: each runs until it has ended or waits for others.
#include "language.h"

#include <csetjmp>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ucontext.h>

#include "card.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace card {
unsigned char shown[1024][16];

static std::map<std::string, Bind> &kernels() {
    static std::map<std::string, Bind> all;
    return all;
}
Kernel::Kernel(const char *name, Bind bind) { kernels().emplace(name, bind); }
Bind find_kernel(const char *name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : found->second;
}

// Where threads wait for one another: passes when as many have come as have not ended.
struct Meeting { unsigned members = 0, come = 0, round = 0; };

// Whether the last thread of a block begins, and the last block of a launch: what comes out must not know.
static bool backwards() {
    static const bool set = std::getenv("CPU_CARD_BACKWARDS") != nullptr;
    return set;
}

static const Launch *current;
static unsigned threads, started;
static Meeting block_meeting, warp_meetings[32];
static jmp_buf scheduler;

// A stack on which threads run, one after another if they need not wait.
struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[1 << 16]};
    jmp_buf resume;
    bool begun = false, waits = false;
    unsigned thread = 0, round = 0;
    Meeting *at = nullptr;
};
static std::vector<std::unique_ptr<Fiber>> fibers;
static Fiber *running;

unsigned threads_of_block() { return threads; }
unsigned linear_thread() { return running->thread; }

static void place(unsigned thread) {
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / (blockDim.x * blockDim.y)};
}

static void pass(Meeting &meeting) {
    meeting.come = 0;
    ++meeting.round;
}

static void meet(Meeting &meeting) {
    if (++meeting.come == meeting.members) return pass(meeting);
    running->at = &meeting;
    running->round = meeting.round;
    running->waits = true;
    if (!_setjmp(running->resume)) _longjmp(scheduler, 1);
}
void meet_block() { meet(block_meeting); }
void meet_warp() { meet(warp_meetings[running->thread / 32]); }

static void leave(Meeting &meeting) {
    if (--meeting.members && meeting.come == meeting.members) pass(meeting);
}

static void work() {
    for (;;) {
        while (started < threads) {
            running->thread = backwards() ? threads - 1 - started : started;
            ++started;
            place(running->thread);
            (*current)();
            leave(block_meeting);
            leave(warp_meetings[running->thread / 32]);
        }
        running->waits = false;
        if (!_setjmp(running->resume)) _longjmp(scheduler, 1);
    }
}

// Runs a fiber until it waits or has nothing left.
static void turn(Fiber &fiber) {
    running = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.begun) {
        place(fiber.thread);
        _longjmp(fiber.resume, 1);
    }
    fiber.begun = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack = {.ss_sp = fiber.stack.get(), .ss_flags = 0, .ss_size = 1 << 16};
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, work, 0);
    setcontext(&fiber.context);
}

static void run_block() {
    started = 0;
    block_meeting = {threads, 0, 0};
    for (unsigned warp = 0; warp < 32; ++warp)
        warp_meetings[warp] = {std::min(32u, threads - std::min(threads, warp * 32)), 0, 0};
    size_t used = 0;
    while (started < threads) {
        if (used == fibers.size()) fibers.push_back(std::make_unique<Fiber>());
        turn(*fibers[used++]);
    }
    for (bool waiting = true, moved = true; waiting && moved;) {
        waiting = moved = false;
        for (size_t at = 0; at < used; ++at) {
            Fiber &fiber = *fibers[at];
            if (!fiber.waits) continue;
            waiting = true;
            if (fiber.at->round == fiber.round) continue;
            moved = true;
            fiber.waits = false;
            turn(fiber);
        }
        if (waiting && !moved) fail("threads of a block wait for one another for ever");
    }
}

void run(const dim3 &grid, const dim3 &block, const Launch &thread) {
    current = &thread;
    gridDim = grid;
    blockDim = block;
    threads = block.x * block.y * block.z;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = {x, y, z};
                if (backwards()) blockIdx = {grid.x - 1 - x, grid.y - 1 - y, grid.z - 1 - z};
                run_block();
            }
}
}
