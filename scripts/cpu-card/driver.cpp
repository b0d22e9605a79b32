// The driver of a card that is the CPU: libcuda, and libnvrtc, whose programs are all compiled in.
//
// It is as late as a card may be: what a stream is given runs when something waits for it, in the stream's order. Memory ends
// at a page that cannot be read, is full of a pattern that is no number, and is taken from the program when it is freed.
//
// CPU_CARD_COUNT, CPU_CARD_CAPABILITY (90), CPU_CARD_PTX (90: its version), CPU_CARD_MEMORY (bytes) make another card of it;
// CPU_CARD_LOG names a file that gets a line for each launch; with CPU_CARD_BACKWARDS blocks and threads begin with the last.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "card.h"

// CUresult
enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209, INVALID_PTX = 218, UNSUPPORTED_PTX_VERSION = 222, INVALID_HANDLE = 400, NOT_FOUND = 500,
    NOT_READY = 600, STREAM_CAPTURE_UNSUPPORTED = 900, STREAM_CAPTURE_INVALIDATED = 901, STREAM_CAPTURE_ISOLATION = 905,
};

namespace card {
[[noreturn]] void fail(const char *what) {
    std::fprintf(stderr, "the CPU's card: %s\n", what);
    std::abort();
}

static size_t setting(const char *name, size_t otherwise) {
    const char *text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct Graph {
    std::vector<Work> works;
    // Allocated within, and not freed within.
    std::set<void *> kept, all;
    bool frees_on_launch = false, launched = false;
    ~Graph();
};

struct Stream {
    std::deque<Work> works;
    std::shared_ptr<Graph> captured;
    bool invalidated = false;
};

struct Event {
    // Of the last record: done once the stream has come that far.
    std::shared_ptr<bool> done;
    Stream *stream = nullptr;
    bool captured = false;
};

static std::recursive_mutex whole;
using Lock = std::lock_guard<std::recursive_mutex>;
static std::set<Stream *> streams;
static thread_local std::unique_ptr<Stream> of_thread;
static Stream legacy;

static Stream *find(void *handle) {
    if (handle == nullptr || handle == (void *)1) return &legacy;
    if (handle == (void *)2) {
        if (!of_thread) {
            of_thread = std::make_unique<Stream>();
            streams.insert(of_thread.get());
        }
        return of_thread.get();
    }
    return streams.count((Stream *)handle) ? (Stream *)handle : nullptr;
}

static void drain(Stream &stream) {
    while (!stream.works.empty()) {
        Work work = std::move(stream.works.front());
        stream.works.pop_front();
        work();
    }
}

static void drain_all() {
    drain(legacy);
    for (Stream *stream : streams) drain(*stream);
}

int enqueue(void *handle, Work work) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->captured) stream->captured->works.push_back(std::move(work));
    else stream->works.push_back(std::move(work));
    return OK;
}

// Of a call that waits: not while the stream is captured.
static int waits(Stream *stream) {
    if (!stream) return INVALID_HANDLE;
    if (stream->captured) {
        stream->invalidated = true;
        return STREAM_CAPTURE_UNSUPPORTED;
    }
    drain(*stream);
    return OK;
}

struct Block { size_t bytes, mapped; char *base; bool host; };
static std::map<void *, Block> blocks;
static size_t taken = 0;

static void *take(size_t bytes, bool host) {
    if (!host && taken + bytes > setting("CPU_CARD_MEMORY", (size_t)8 << 30)) return nullptr;
    const size_t page = 4096, used = (std::max<size_t>(bytes, 1) + 15) / 16 * 16, mapped = (used + page - 1) / page * page + page;
    void *base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) fail("the CPU has no memory left");
    mprotect((char *)base + mapped - page, page, PROT_NONE);
    char *start = (char *)base + mapped - page - used;
    std::memset(start, 0xff, used);
    blocks[start] = {bytes, mapped, (char *)base, host};
    if (!host) taken += bytes;
    return start;
}

static int give_back(void *at) {
    auto found = blocks.find(at);
    if (found == blocks.end()) return INVALID_VALUE;
    if (!found->second.host) taken -= found->second.bytes;
    munmap(found->second.base, found->second.mapped);
    blocks.erase(found);
    return OK;
}

static bool pinned(const void *at) {
    auto after = blocks.upper_bound((void *)at);
    return after != blocks.begin() && (--after)->second.host && (char *)at < (char *)after->first + after->second.bytes;
}

Graph::~Graph() {
    for (void *at : all) give_back(at);
}

static void log(const char *what) {
    static FILE *file = std::getenv("CPU_CARD_LOG") ? std::fopen(std::getenv("CPU_CARD_LOG"), "a") : nullptr;
    if (file) std::fprintf(file, "%s\n", what), std::fflush(file);
}
}

using namespace card;
#define API extern "C" __attribute__((visibility("default"))) int
typedef unsigned long long Pointer;

API cuInit(unsigned) { return setting("CPU_CARD_COUNT", 1) ? OK : NO_DEVICE; }
API cuGetErrorName(int, const char **text) { *text = "an error of the CPU's card"; return OK; }
API cuGetErrorString(int, const char **text) { *text = "an error of the CPU's card"; return OK; }
API cuDeviceGetCount(int *count) { *count = (int)setting("CPU_CARD_COUNT", 1); return OK; }
API cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < (int)setting("CPU_CARD_COUNT", 1) ? OK : INVALID_DEVICE;
}
API cuDeviceGetName(char *name, int length, int) { std::snprintf(name, (size_t)length, "the CPU"); return OK; }
API cuDeviceTotalMem_v2(size_t *bytes, int) { *bytes = setting("CPU_CARD_MEMORY", (size_t)8 << 30); return OK; }
API cuDeviceGetAttribute(int *value, int attribute, int) {
    const int capability = (int)setting("CPU_CARD_CAPABILITY", 90);
    switch (attribute) {
        case 75: *value = capability / 10; break;
        case 76: *value = capability % 10; break;
        case 115: *value = 1; break; // memory pools
        case 16: *value = 2; break;  // multiprocessors
        case 1: *value = 1024; break;
        default: *value = 0;
    }
    return OK;
}
API cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(intptr_t)(device + 1); return OK; }
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
static thread_local void *context_of_thread;
API cuCtxGetCurrent(void **context) { *context = context_of_thread; return OK; }
API cuCtxSetCurrent(void *context) { context_of_thread = context; return OK; }
API cuCtxSynchronize() {
    Lock lock(whole);
    for (Stream *stream : streams)
        if (stream->captured) return stream->invalidated = true, STREAM_CAPTURE_UNSUPPORTED;
    drain_all();
    return OK;
}

// Modules are one: the kernels that are compiled in. Their text says for which card it is.
API cuModuleLoadData(void **module, const void *image) {
    const std::string text = (const char *)image;
    auto number = [&](const char *before) {
        size_t at = text.find(before);
        return at == std::string::npos ? 0 : (int)(std::strtod(text.c_str() + at + std::strlen(before), nullptr) * 10 + 0.5);
    };
    if (number(".version ") > (int)setting("CPU_CARD_PTX", 90)) return UNSUPPORTED_PTX_VERSION;
    if (number(".target sm_") / 10 > (int)setting("CPU_CARD_CAPABILITY", 90)) return NO_BINARY_FOR_GPU;
    *module = (void *)1;
    return OK;
}
API cuModuleUnload(void *) { return OK; }
struct Function { std::string name; Bind bind; };
API cuModuleGetFunction(void **function, void *, const char *name) {
    Lock lock(whole);
    static std::map<std::string, Function> found;
    Bind bind = find_kernel(name);
    if (!bind) return NOT_FOUND;
    *function = &found.try_emplace(name, Function{name, bind}).first->second;
    return OK;
}
API cuFuncSetAttribute(void *, int, int) { return OK; }
API cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void *stream,
                   void **arguments, void **) {
    const dim3 grid{gx, gy, gz}, block{bx, by, bz};
    if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || !bx || !by || !bz || (size_t)bx * by * bz > 1024) return INVALID_VALUE;
    auto *kernel = (Function *)function;
    Launch launch = kernel->bind(arguments);
    return enqueue(stream, [=] {
        log(kernel->name.c_str());
        run(grid, block, launch);
    });
}

API cuStreamCreate(void **stream, unsigned) {
    Lock lock(whole);
    *stream = new Stream;
    streams.insert((Stream *)*stream);
    return OK;
}
API cuStreamDestroy_v2(void *handle) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream) return INVALID_HANDLE;
    drain(*stream);
    streams.erase(stream);
    delete stream;
    return OK;
}
API cuStreamSynchronize(void *handle) {
    Lock lock(whole);
    return waits(find(handle));
}
API cuEventCreate(void **event, unsigned) { *event = new Event; return OK; }
API cuEventDestroy_v2(void *event) {
    Lock lock(whole);
    delete (Event *)event;
    return OK;
}
API cuEventRecord(void *handle, void *stream) {
    Lock lock(whole);
    auto *event = (Event *)handle;
    event->stream = find(stream);
    if (!event->stream) return INVALID_HANDLE;
    event->captured = event->stream->captured != nullptr;
    auto done = event->done = std::make_shared<bool>(false);
    return enqueue(stream, [done] { *done = true; });
}
static void reach(Stream *stream, const std::shared_ptr<bool> &done) {
    while (done && !*done && streams.count(stream) && !stream->works.empty()) {
        Work work = std::move(stream->works.front());
        stream->works.pop_front();
        work();
    }
}
API cuEventSynchronize(void *handle) {
    Lock lock(whole);
    auto *event = (Event *)handle;
    if (event->captured) return STREAM_CAPTURE_UNSUPPORTED;
    reach(event->stream, event->done);
    return OK;
}
API cuEventQuery(void *handle) {
    Lock lock(whole);
    auto *event = (Event *)handle;
    return event->done && !*event->done ? NOT_READY : OK;
}
API cuEventElapsedTime_v2(float *milliseconds, void *, void *) { *milliseconds = 0; return OK; }
API cuStreamWaitEvent(void *handle, void *of, unsigned) {
    Lock lock(whole);
    auto *event = (Event *)of;
    Stream *stream = find(handle), *other = event->stream;
    if (!stream) return INVALID_HANDLE;
    if (!event->done) return OK;
    if (stream->captured && !event->captured) return stream->invalidated = true, STREAM_CAPTURE_ISOLATION;
    if (!stream->captured && event->captured) return STREAM_CAPTURE_UNSUPPORTED;
    auto done = event->done;
    return enqueue(handle, [=] { if (other != stream) reach(other, done); });
}

API cuMemGetInfo_v2(size_t *free, size_t *total) {
    Lock lock(whole);
    *total = setting("CPU_CARD_MEMORY", (size_t)8 << 30);
    *free = *total - std::min(taken, *total);
    return OK;
}
static int allocate(Pointer *at, size_t bytes) {
    void *taken_ = take(bytes, false);
    if (!taken_) drain_all(), taken_ = take(bytes, false);
    *at = (Pointer)taken_;
    return taken_ ? OK : OUT_OF_MEMORY;
}
API cuMemAlloc_v2(Pointer *at, size_t bytes) {
    Lock lock(whole);
    return bytes ? allocate(at, bytes) : INVALID_VALUE;
}
API cuMemFree_v2(Pointer at) {
    Lock lock(whole);
    drain_all();
    return give_back((void *)at);
}
API cuMemAllocAsync(Pointer *at, size_t bytes, void *handle) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream) return INVALID_HANDLE;
    if (!bytes) return INVALID_VALUE;
    if (!stream->captured) return allocate(at, bytes);
    void *memory = take(bytes, false);
    if (!memory) return OUT_OF_MEMORY;
    *at = (Pointer)memory;
    stream->captured->all.insert(memory);
    stream->captured->kept.insert(memory);
    return OK;
}
API cuMemFreeAsync(Pointer at, void *handle) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream) return INVALID_HANDLE;
    void *memory = (void *)at;
    if (!blocks.count(memory)) return INVALID_VALUE;
    if (stream->captured) {
        // What was allocated before is not the graph's to free.
        if (!stream->captured->kept.erase(memory)) return stream->invalidated = true, INVALID_VALUE;
        size_t bytes = blocks[memory].bytes;
        return enqueue(handle, [=] { std::memset(memory, 0xff, bytes); });
    }
    return enqueue(handle, [=] { give_back(memory); });
}
API cuDeviceGetDefaultMemPool(void **pool, int) { *pool = (void *)1; return OK; }
API cuMemPoolSetAttribute(void *, int, void *) { return OK; }
API cuMemHostAlloc(void **at, size_t bytes, unsigned) {
    Lock lock(whole);
    *at = take(bytes, true);
    return OK;
}
API cuMemFreeHost(void *at) {
    Lock lock(whole);
    return give_back(at);
}
API cuMemsetD8Async(Pointer at, unsigned char value, size_t bytes, void *stream) {
    return enqueue(stream, [=] { std::memset((void *)at, value, bytes); });
}
API cuMemsetD8_v2(Pointer at, unsigned char value, size_t bytes) {
    Lock lock(whole);
    drain_all();
    std::memset((void *)at, value, bytes);
    return OK;
}
API cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *handle) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream) return INVALID_HANDLE;
    // Pinned memory is read when its turn comes; other memory is read before the call returns. A graph reads it when it runs.
    if (pinned(from) || stream->captured) return enqueue(handle, [=] { std::memcpy((void *)to, from, bytes); });
    auto copy = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + bytes);
    return enqueue(handle, [=] { std::memcpy((void *)to, copy->data(), bytes); });
}
API cuMemcpyHtoD_v2(Pointer to, const void *from, size_t bytes) {
    Lock lock(whole);
    drain_all();
    std::memcpy((void *)to, from, bytes);
    return OK;
}
API cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *handle) {
    Lock lock(whole);
    if (pinned(to)) return enqueue(handle, [=] { std::memcpy(to, (void *)from, bytes); });
    if (int refused = waits(find(handle))) return refused;
    std::memcpy(to, (void *)from, bytes);
    return OK;
}
API cuMemcpyDtoH_v2(void *to, Pointer from, size_t bytes) {
    Lock lock(whole);
    drain_all();
    std::memcpy(to, (void *)from, bytes);
    return OK;
}
API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void *stream) {
    return enqueue(stream, [=] { std::memcpy((void *)to, (void *)from, bytes); });
}

API cuStreamBeginCapture_v2(void *handle, int) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream == &legacy || stream->captured) return STREAM_CAPTURE_UNSUPPORTED;
    stream->captured = std::make_shared<Graph>();
    stream->invalidated = false;
    return OK;
}
API cuStreamIsCapturing(void *handle, int *status) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream) return INVALID_HANDLE;
    *status = !stream->captured ? 0 : stream->invalidated ? 2 : 1;
    return OK;
}
API cuStreamEndCapture(void *handle, void **graph) {
    Lock lock(whole);
    Stream *stream = find(handle);
    if (!stream || !stream->captured) return INVALID_VALUE;
    auto captured = std::move(stream->captured);
    stream->captured = nullptr;
    *graph = nullptr;
    if (stream->invalidated) return STREAM_CAPTURE_INVALIDATED;
    *graph = new std::shared_ptr<Graph>(captured);
    return OK;
}
API cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    auto shared = *(std::shared_ptr<Graph> *)graph;
    shared->frees_on_launch = flags & 1;
    *executable = new std::shared_ptr<Graph>(shared);
    return OK;
}
API cuGraphUpload(void *, void *) { return OK; }
API cuGraphLaunch(void *executable, void *stream) {
    Lock lock(whole);
    auto graph = *(std::shared_ptr<Graph> *)executable;
    if (graph->launched && !graph->kept.empty() && !graph->frees_on_launch) return INVALID_VALUE;
    graph->launched = true;
    log("a graph");
    return enqueue(stream, [graph] {
        for (void *at : graph->all) std::memset(at, 0xff, blocks[at].bytes);
        for (auto &work : graph->works) work();
    });
}
API cuGraphExecDestroy(void *executable) {
    Lock lock(whole);
    drain_all();
    delete (std::shared_ptr<Graph> *)executable;
    return OK;
}
API cuGraphDestroy(void *graph) {
    Lock lock(whole);
    delete (std::shared_ptr<Graph> *)graph;
    return OK;
}

static const char PTX[] = ".version 7.0\n.target sm_75\n.address_size 64\n";
API nvrtcCreateProgram(void **program, const char *, const char *, int, const char *const *, const char *const *) {
    *program = (void *)1;
    return OK;
}
API nvrtcCompileProgram(void *, int, const char *const *) { return OK; }
API nvrtcDestroyProgram(void **) { return OK; }
API nvrtcGetPTXSize(void *, size_t *bytes) { *bytes = sizeof PTX; return OK; }
API nvrtcGetPTX(void *, char *text) { std::memcpy(text, PTX, sizeof PTX); return OK; }
API nvrtcGetProgramLogSize(void *, size_t *bytes) { *bytes = 1; return OK; }
API nvrtcGetProgramLog(void *, char *text) { *text = 0; return OK; }

API curandCreateGenerator(void **generator, int) { *generator = (void *)1; return OK; }
API curandSetStream(void *, void *) { return OK; }
API curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return OK; }
API curandDestroyGenerator(void *) { return OK; }
