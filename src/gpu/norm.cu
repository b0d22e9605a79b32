// A norm with its ReLU, forward and back, over rows x of `length` values: a row for each blockIdx.y, of its own numbers.
// The half types are read and written by hand: NVRTC has none of the toolkit's headers where only the driver is.

typedef unsigned long long count;

// Of a block; norm.rs launches that many.
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
        unsigned whole = __float_as_uint(value);
        bits = value == value ? (whole + 0x7fff + (whole >> 16 & 1)) >> 16 : 0x7fff;
    }
};

// Every value of the row once, by the threads of all blocks.
#define EACH(at) \
    for (count at = (count)blockIdx.x * blockDim.x + threadIdx.x; at < length; at += (count)gridDim.x * blockDim.x)

// z = max(scale * x + shift, 0)
template <typename T>
__device__ void affine_relu(const T *x, const float *scale, const float *shift, T *z, count length) {
    float factor = scale[blockIdx.y], offset = shift[blockIdx.y];
    x += blockIdx.y * length;
    z += blockIdx.y * length;
    EACH(at) z[at] = fmaxf(fmaf(factor, (float)x[at], offset), 0.0f);
}

// scale * d, where d is the gradient by z, 0 where the ReLU was closed. `norm` is (4, rows): scale, shift, mean, inverse.
template <typename T>
__device__ void gate(const T *x, const T *gradient, const float *norm, T *out, count length) {
    float factor = norm[blockIdx.y], offset = norm[gridDim.y + blockIdx.y];
    x += blockIdx.y * length;
    gradient += blockIdx.y * length;
    out += blockIdx.y * length;
    EACH(at) out[at] = fmaf(factor, (float)x[at], offset) > 0.0f ? factor * (float)gradient[at] : 0.0f;
}

// Each block's part of the sums of d and of d * (x - mean) * inverse: (2, rows, gridDim.x). Blocks are of THREADS threads.
template <typename T>
__device__ void sums(const T *x, const T *gradient, const float *norm, float *out, count length) {
    __shared__ float parts[2][THREADS];
    unsigned row = blockIdx.y, rows = gridDim.y;
    float factor = norm[row], offset = norm[rows + row], mean = norm[2 * rows + row], inverse = norm[3 * rows + row];
    float first = 0.0f, second = 0.0f;
    x += row * length;
    gradient += row * length;
    EACH(at) {
        float value = (float)x[at];
        float open = fmaf(factor, value, offset) > 0.0f ? (float)gradient[at] : 0.0f;
        first += open;
        second = fmaf(open, (value - mean) * inverse, second);
    }
    parts[0][threadIdx.x] = first;
    parts[1][threadIdx.x] = second;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half)
            for (int sum = 0; sum < 2; ++sum) parts[sum][threadIdx.x] += parts[sum][threadIdx.x + half];
    }
    if (threadIdx.x == 0)
        for (int sum = 0; sum < 2; ++sum) out[(sum * rows + row) * (count)gridDim.x + blockIdx.x] = parts[sum][0];
}

#define OF(T)                                                                                                              \
    extern "C" __global__ void affine_relu_##T(const T *x, const float *scale, const float *shift, T *z, count length) {   \
        affine_relu(x, scale, shift, z, length);                                                                           \
    }                                                                                                                      \
    extern "C" __global__ void gate_##T(const T *x, const T *gradient, const float *norm, T *out, count length) {          \
        gate(x, gradient, norm, out, length);                                                                              \
    }                                                                                                                      \
    extern "C" __global__ void sums_##T(const T *x, const T *gradient, const float *norm, float *out, count length) {      \
        sums(x, gradient, norm, out, length);                                                                              \
    }

typedef float f32;
OF(f32)
OF(f16)
OF(bf16)
