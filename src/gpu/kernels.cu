// Over rows x of `length` values, one for each blockIdx.y: a channel of all images. A norm with its ReLU, forward and back;
// dropout; the stem's max-pool back.
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

// SplitMix64's output function on a step of its counter.
__device__ inline count mix(count value) {
    value += 0x9e3779b97f4a7c15ull;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

// What is dropped, as densenet_engine::train::Mask has it; images of so many pixels.
struct Mask { count key, pixels; unsigned limit; float scale; };

// Zero where 32 drawn bits are below the limit; sixteen channels are a block, of which each pair draws together.
template <typename T>
__device__ void dropout(const T *x, Mask mask, T *out, count length) {
    count channel = blockIdx.y;
    x += channel * length;
    out += channel * length;
    EACH(at) {
        count image = at / mask.pixels, place = channel / 16 * mask.pixels + at % mask.pixels;
        count bits = mix(mix(mask.key ^ image) + mix(8 * place + channel % 16 / 2)) >> 32 * (channel % 2);
        out[at] = (float)x[at] * mask.scale * (float)((unsigned)bits >= mask.limit);
    }
}

// Of a map.
struct Sides { count height, width; };

// The first of the largest values, row by row, that a window 3x3 sees at (row, column) of a max-pool with stride 2 and padding 1.
template <typename T>
__device__ count largest(const T *map, Sides of, count row, count column) {
    count best = ~0ull;
    for (count y = row ? 2 * row - 1 : 0; y <= 2 * row + 1 && y < of.height; ++y)
        for (count x = column ? 2 * column - 1 : 0; x <= 2 * column + 1 && x < of.width; ++x) {
            count at = y * of.width + x;
            if (best == ~0ull || (float)map[at] > (float)map[best]) best = at;
        }
    return best;
}

// The gradient by that max-pool's input: the sum of those of the up to four windows of which a value is the largest.
template <typename T>
__device__ void max_pool_back(const T *x, const T *gradient, Sides of, T *out, count length) {
    count pixels = of.height * of.width, rows = (of.height + 1) / 2, columns = (of.width + 1) / 2;
    x += blockIdx.y * length;
    out += blockIdx.y * length;
    gradient += blockIdx.y * (length / pixels) * rows * columns;
    EACH(at) {
        count image = at / pixels, pixel = at % pixels, y = pixel / of.width, column = pixel % of.width;
        float sum = 0.0f;
        for (count r = y / 2; r <= (y + 1) / 2 && r < rows; ++r)
            for (count c = column / 2; c <= (column + 1) / 2 && c < columns; ++c)
                if (largest(x + image * pixels, of, r, c) == pixel) sum += (float)gradient[(image * rows + r) * columns + c];
        out[at] = sum;
    }
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
    }                                                                                                                      \
    extern "C" __global__ void dropout_##T(const T *x, Mask mask, T *out, count length) { dropout(x, mask, out, length); } \
    extern "C" __global__ void max_pool_back_##T(const T *x, const T *gradient, Sides of, T *out, count length) {          \
        max_pool_back(x, gradient, of, out, length);                                                                       \
    }

typedef float f32;
OF(f32)
OF(f16)
OF(bf16)
