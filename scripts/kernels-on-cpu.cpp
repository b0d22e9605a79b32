// Runs the kernels of src/gpu/norm.cu with threads of the CPU in place of the card's, and compares them with their formulas in
// double precision. c++ -std=c++20 -pthread kernels-on-cpu.cpp && ./a.out
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
#include "../src/gpu/norm.cu"

static const unsigned ROWS = 3, BLOCKS = 4;
static const count LENGTH = 3001;

template <typename Kernel> void launch(Kernel kernel) {
    gridDim = {BLOCKS, ROWS};
    blockDim = {THREADS, 1};
    for (unsigned row = 0; row < ROWS; ++row)
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

int main() {
    all<float>(1e-7);
    all<bf16>(1.0 / 256);
    bf16 none;
    none = NAN;
    check("what is no number", std::isnan((float)none), 1, 0);
    return good ? 0 : 1;
}
