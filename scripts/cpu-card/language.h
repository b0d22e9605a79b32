// The part of CUDA C++ that kernels are written in, for a C++ compiler: types, functions of the card, and what a thread knows.
// One thread runs at a time; see threads.cpp for how they meet.
#pragma once
#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#define __CUDA_ARCH__ 800
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __launch_bounds__(...)
// Blocks run one after another, so that one of each is enough.
#define __shared__ static
#ifndef __global__
#define __global__
#endif

struct dim3 { unsigned x = 1, y = 1, z = 1; };
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace card {
// Waits for all threads of the block, or of the warp, that have not ended.
void meet_block();
void meet_warp();
// What the lanes of a warp show one another.
extern unsigned char shown[1024][16];
unsigned linear_thread();
unsigned threads_of_block();

// A launch: its arguments are copied at once, as the driver does.
using Launch = std::function<void()>;
using Bind = Launch (*)(void **);
struct Kernel { Kernel(const char *name, Bind bind); };
[[noreturn]] void fail(const char *what);
void run(const dim3 &grid, const dim3 &block, const Launch &thread);

template <auto kernel, class... Arguments> Launch bind(void (*)(Arguments...), void **from) {
    return [&]<size_t... at>(std::index_sequence<at...>) {
        std::tuple<std::remove_cv_t<Arguments>...> arguments(*static_cast<std::remove_cv_t<Arguments> *>(from[at])...);
        return Launch([arguments] { std::apply(kernel, arguments); });
    }(std::index_sequence_for<Arguments...>{});
}
}
#define CARD_KERNEL(name) \
    static card::Kernel kernel_##name(#name, +[](void **from) { return card::bind<&name>(&name, from); });

inline void __syncthreads() { card::meet_block(); }
template <class T> T __shfl_xor_sync(unsigned, T value, int lanes, int = 32) {
    unsigned self = card::linear_thread(), other = self ^ (unsigned)lanes;
    std::memcpy(card::shown[self], &value, sizeof value);
    card::meet_warp();
    if (other < card::threads_of_block()) std::memcpy(&value, card::shown[other], sizeof value);
    card::meet_warp();
    return value;
}

template <class To, class From> To card_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __uint_as_float(unsigned bits) { return card_bits<float>(bits); }
inline unsigned __float_as_uint(float value) { return card_bits<unsigned>(value); }
inline float __int_as_float(int bits) { return card_bits<float>(bits); }
inline int __float_as_int(float value) { return card_bits<int>(value); }
inline double __longlong_as_double(long long bits) { return card_bits<double>(bits); }
inline long long __double_as_longlong(double value) { return card_bits<long long>(value); }

// A type of 16 bits that computes in f32 and rounds when it is stored.
template <class Format> struct Short {
    uint16_t bits = 0;
    Short() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>> Short(T value) : bits(Format::round((float)value)) {}
    template <class Other> explicit Short(Short<Other> other) : Short((float)other) {}
    operator float() const { return Format::widen(bits); }
    Short &operator+=(float by) { return *this = Short((float)*this + by); }
    Short &operator-=(float by) { return *this = Short((float)*this - by); }
    Short &operator*=(float by) { return *this = Short((float)*this * by); }
    Short &operator/=(float by) { return *this = Short((float)*this / by); }
};
struct Bf16 {
    static uint16_t round(float value) {
        unsigned whole = __float_as_uint(value);
        return value == value ? (whole + 0x7fff + (whole >> 16 & 1)) >> 16 : 0x7fff;
    }
    static float widen(uint16_t bits) { return __uint_as_float((unsigned)bits << 16); }
};
struct F16 {
    static uint16_t round(float value) { return card_bits<uint16_t>((_Float16)value); }
    static float widen(uint16_t bits) { return (float)card_bits<_Float16>(bits); }
};
typedef Short<F16> __half;
typedef Short<Bf16> __nv_bfloat16;

inline float __half2float(__half value) { return value; }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline __half __float2half(float value) { return value; }
inline __nv_bfloat16 __float2bfloat16(float value) { return value; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return value; }
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
inline __nv_bfloat162 __hadd2(__nv_bfloat162 a, __nv_bfloat162 b) { return {(float)a.x + (float)b.x, (float)a.y + (float)b.y}; }
inline __nv_bfloat162 __hsub2(__nv_bfloat162 a, __nv_bfloat162 b) { return {(float)a.x - (float)b.x, (float)a.y - (float)b.y}; }
inline __nv_bfloat162 __hmul2(__nv_bfloat162 a, __nv_bfloat162 b) { return {(float)a.x * (float)b.x, (float)a.y * (float)b.y}; }
inline uint16_t __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(uint16_t bits) {
    __half value;
    value.bits = bits;
    return value;
}
template <class T> bool __hisnan(Short<T> value) { return std::isnan((float)value); }
template <class T> Short<T> hsqrt(Short<T> value) { return std::sqrt((float)value); }
template <class T> Short<T> hcos(Short<T> value) { return std::cos((float)value); }
template <class T> Short<T> hsin(Short<T> value) { return std::sin((float)value); }
template <class T> Short<T> hlog(Short<T> value) { return std::log((float)value); }
template <class T> Short<T> hexp(Short<T> value) { return std::exp((float)value); }
template <class T> Short<T> __habs(Short<T> value) { return std::fabs((float)value); }
template <class T> Short<T> __hmax_nan(Short<T> a, Short<T> b) { return __hisnan(a) || (float)a > (float)b ? a : b; }
template <class T> Short<T> __hmin_nan(Short<T> a, Short<T> b) { return __hisnan(a) || (float)a < (float)b ? a : b; }

// Eight bits are named by kernels, and never computed with here.
struct __nv_fp8_e4m3 {
    uint8_t __x = 0;
    __nv_fp8_e4m3() = default;
    template <class T> explicit __nv_fp8_e4m3(T) {}
    operator float() const { return NAN; }
};
enum { __NV_E4M3 };
inline __half __nv_cvt_fp8_to_halfraw(uint8_t, int) { return NAN; }

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
using std::isnan;
using std::signbit;
inline float rsqrtf(float value) { return 1 / std::sqrt(value); }
inline double normcdf(double value) { return std::erfc(-value * M_SQRT1_2) / 2; }
inline float normcdff(float value) { return (float)normcdf(value); }
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    return (T)a < (T)b ? (T)a : (T)b;
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    return (T)a > (T)b ? (T)a : (T)b;
}

template <class T, class By> T atomicAdd(T *at, By by) {
    T before = *at;
    *at = (T)(before + by);
    return before;
}
template <class T, class By> T atomicMin(T *at, By by) { return std::exchange(*at, std::min(*at, (T)by)); }
template <class T, class By> T atomicMax(T *at, By by) { return std::exchange(*at, std::max(*at, (T)by)); }
template <class T, class A, class B> T atomicCAS(T *at, A expected, B desired) {
    T before = *at;
    if (before == (T)expected) *at = (T)desired;
    return before;
}

namespace cuda::std {
using ::std::numeric_limits;
}

#include "tensor.h"
