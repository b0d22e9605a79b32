// What all kernels share. They work over rows of `length` values, one for each blockIdx.y: a channel of all images.
// The half types are read and written by hand: NVRTC has none of the toolkit's headers where only the driver is.

typedef unsigned long long count;

// Of a block; launch.rs launches that many.
#define THREADS 256

#ifndef ON_CPU
struct f16 {
    unsigned short bits;
    __device__ operator float() const {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
    __device__ void operator=(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
};
#endif

struct bf16 {
    unsigned short bits;
    __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
    // To the nearest, ties to even; what is no number stays none.
    __device__ void operator=(float value) {
#if !defined ON_CPU && __CUDA_ARCH__ >= 800
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
        unsigned whole = __float_as_uint(value);
        bits = value == value ? (whole + 0x7fff + (whole >> 16 & 1)) >> 16 : 0x7fff;
#endif
    }
};

typedef float f32;

// Defines what `OF` makes of each type, or of those that are packed with the channels of a pixel side by side.
#define OF_HALF OF(f16) OF(bf16)
#define OF_ALL OF(f32) OF_HALF

// N values side by side, read and written at once.
template <typename T, unsigned N> struct alignas(N * sizeof(T)) Run { T at[N]; };

template <unsigned N, typename T> __device__ inline Run<T, N> read(const T *from) { return *(const Run<T, N> *)from; }
template <unsigned N, typename T> __device__ inline void write(T *to, const Run<T, N> &run) { *(Run<T, N> *)to = run; }

// Whether 16 bytes may be read at once from there.
__device__ inline bool even(const void *at) { return (count)at % 16 == 0; }

// Has `kernel` take runs of 16 bytes where all of the rows of T, which begin at even places, are made of them; else single values.
#define RUNS(T, rows_are_even, kernel, ...)                   \
    if (length % (16 / sizeof(T)) == 0 && (rows_are_even))    \
        kernel<16 / sizeof(T)>(__VA_ARGS__, (unsigned)length); \
    else                                                      \
        kernel<1>(__VA_ARGS__, (unsigned)length);

// Every value of the row once, N at a time, by the threads of all blocks.
#define EACH(N, at) \
    for (unsigned at = (blockIdx.x * THREADS + threadIdx.x) * N; at < length; at += gridDim.x * THREADS * N)

// The sum of what the threads of a block have, for each of them.
__device__ inline float block_sum(float mine) {
    __shared__ float parts[THREADS / 32];
    for (unsigned lanes = 16; lanes > 0; lanes /= 2) mine += __shfl_xor_sync(~0u, mine, lanes);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
    __syncthreads();
    float sum = 0.0f;
    for (unsigned warp = 0; warp < THREADS / 32; ++warp) sum += parts[warp];
    return sum;
}
