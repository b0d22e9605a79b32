// Runs the kernels of src/gpu/kernels.cu with threads of the CPU in place of the card's, and compares them with their formulas
// in double precision, dropout with a mask that was drawn by another program. c++ -std=c++20 -pthread kernels-on-cpu.cpp && ./a.out
#include <barrier>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#define ON_CPU
#define __device__
#define __global__
#define __shared__ static
#define __syncthreads() together.arrive_and_wait()
#define __uint_as_float(bits) as<float>(bits)
#define __float_as_uint(value) as<unsigned>(value)

struct Place { unsigned x, y; };
static Place blockIdx, blockDim, gridDim;
static thread_local Place threadIdx;
static std::barrier together{256};
template <typename To, typename From> To as(From from) { To to; std::memcpy(&to, &from, sizeof to); return to; }
using std::fmaf;
using std::fmaxf;
// f16 is read and written by instructions of the card.
struct bf16;
typedef bf16 f16;
#include "../src/gpu/kernels.cu"

static const unsigned ROWS = 3, BLOCKS = 4;
static const count LENGTH = 3001;

template <typename Kernel> void launch(Kernel kernel, unsigned rows = ROWS) {
    gridDim = {BLOCKS, rows};
    blockDim = {THREADS, 1};
    for (unsigned row = 0; row < rows; ++row)
        for (unsigned block = 0; block < BLOCKS; ++block) {
            blockIdx = {block, row};
            std::vector<std::thread> threads;
            for (unsigned thread = 0; thread < THREADS; ++thread)
                threads.emplace_back([=] { threadIdx = {thread, 0}; kernel(); });
            for (auto &thread : threads) thread.join();
        }
}

static bool good = true;
static void check(const char *what, double found, double expected, double most) {
    if (!(std::fabs(found - expected) <= most)) {
        std::printf("%s: %g, expected %g\n", what, found, expected);
        good = false;
    }
}

template <typename T> void all(double rounding) {
    // scale, shift, mean, inverse of each row
    std::vector<float> norm{2, -1, .5, .1f, .2f, -1, .3f, .1f, -.2f, 1.5f, .7f, 2}, sums_(2 * ROWS * BLOCKS);
    std::vector<T> x(ROWS * LENGTH), gradient(x.size()), z(x.size()), scaled(x.size());
    for (size_t at = 0; at < x.size(); ++at) x[at] = 4 * std::sin(at * .37f), gradient[at] = std::cos(at * .11f);
    launch([&] { affine_relu(x.data(), norm.data(), norm.data() + ROWS, z.data(), LENGTH); });
    launch([&] { gate(x.data(), gradient.data(), norm.data(), scaled.data(), LENGTH); });
    launch([&] { sums(x.data(), gradient.data(), norm.data(), sums_.data(), LENGTH); });
    for (unsigned row = 0; row < ROWS; ++row) {
        double scale = norm[row], shift = norm[ROWS + row], mean = norm[2 * ROWS + row], inverse = norm[3 * ROWS + row];
        double bias = 0, weight = 0, first = 0, second = 0;
        for (count at = row * LENGTH; at < (row + 1) * LENGTH; ++at) {
            double value = (float)x[at], opened = scale * value + shift, open = opened > 0 ? (float)gradient[at] : 0;
            check("affine_relu", (float)z[at], std::fmax(opened, 0), rounding * std::fabs(opened) + 1e-6);
            check("gate", (float)scaled[at], scale * open, rounding * std::fabs(scale * open) + 1e-7);
            bias += open;
            weight += open * (value - mean) * inverse;
        }
        for (unsigned block = 0; block < BLOCKS; ++block) {
            first += sums_[row * BLOCKS + block];
            second += sums_[(ROWS + row) * BLOCKS + block];
        }
        check("sum of d", first, bias, 1e-4);
        check("sum of d and x", second, weight, 1e-3);
    }
}

// Three images of twelve pixels of the key 5 and the rate 0.4, of the channels 0, 1 and 17: x where a value stays.
static void drops() {
    const struct { unsigned channel; const char *mask; } drawn[] = {
        {0, "xxx.xxx.xx...xx........x......x..x.x"},
        {1, "x..xx.xxxxxxxx.xxxxx..x.x.x.xxx...xx"},
        {17, "...xxx....x..x.x.x...x..xxx..xx.xxxx"},
    };
    const unsigned channels = 18, length = 36;
    std::vector<float> x(channels * length), out(x.size());
    for (size_t at = 0; at < x.size(); ++at) x[at] = at + 1;
    Mask mask{5, 12, (unsigned)(0.4 * 4294967296.0), 1.25f};
    launch([&] { dropout(x.data(), mask, out.data(), length); }, channels);
    for (auto row : drawn)
        for (unsigned at = 0; at < length; ++at) {
            unsigned place = row.channel * length + at;
            check("dropout", out[place], row.mask[at] == 'x' ? 1.25 * (place + 1) : 0, 0);
        }
}

// Two channels of two images, with equal values among them.
static void pools_back(count height, count width) {
    const count channels = 2, batch = 2, rows = (height + 1) / 2, columns = (width + 1) / 2, pixels = height * width;
    std::vector<float> x(channels * batch * pixels), out(x.size()), expected(x.size()), gradient(channels * batch * rows * columns);
    for (size_t at = 0; at < x.size(); ++at) x[at] = at * 7 % 5;
    for (size_t at = 0; at < gradient.size(); ++at) gradient[at] = at + 1;
    for (count place = 0; place < gradient.size(); ++place) {
        count map = place / (rows * columns), row = place / columns % rows, column = place % columns;
        size_t most = x.size();
        for (int tap = 0; tap < 9; ++tap) {
            long long y = 2 * (long long)row + tap / 3 - 1, at = 2 * (long long)column + tap % 3 - 1;
            if (y < 0 || at < 0 || y >= (long long)height || at >= (long long)width) continue;
            size_t here = map * pixels + y * width + at;
            if (most == x.size() || x[here] > x[most]) most = here;
        }
        expected[most] += gradient[place];
    }
    launch([&] { max_pool_back(x.data(), gradient.data(), Sides{height, width}, out.data(), batch * pixels); }, channels);
    for (size_t at = 0; at < x.size(); ++at) check("max_pool_back", out[at], expected[at], 0);
}

int main() {
    all<float>(1e-7);
    drops();
    pools_back(6, 8);
    pools_back(5, 7);
    pools_back(1, 1);
    all<bf16>(1.0 / 256);
    bf16 none;
    none = NAN;
    check("what is no number", std::isnan((float)none), 1, 0);
    return good ? 0 : 1;
}
