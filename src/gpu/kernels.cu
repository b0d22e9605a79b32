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

// Of a tile on its way from rows to columns.
#define TILE 32

// Rows (rows, length) as columns (length, rows), each value by `value(x, its row)`. Blocks take tiles in turn.
template <typename T, typename Value>
__device__ void turn(const T *x, count rows, T *out, count length, Value value) {
    __shared__ T tile[TILE][TILE + 1];
    count wide = (length + TILE - 1) / TILE, tiles = (rows + TILE - 1) / TILE * wide;
    unsigned lane = threadIdx.x % TILE, line = threadIdx.x / TILE;
    for (count at = blockIdx.x; at < tiles; at += gridDim.x) {
        count top = at / wide * TILE, left = at % wide * TILE;
        for (unsigned down = line; down < TILE; down += THREADS / TILE)
            if (top + down < rows && left + lane < length)
                tile[down][lane] = value(x[(top + down) * length + left + lane], top + down);
        __syncthreads();
        for (unsigned down = line; down < TILE; down += THREADS / TILE)
            if (left + down < length && top + lane < rows) out[(left + down) * rows + top + lane] = tile[lane][down];
        __syncthreads();
    }
}

template <typename T>
__device__ void turned(const T *x, count rows, T *out, count length) {
    turn(x, rows, out, length, [](T value, count) { return value; });
}

// affine_relu, turned.
template <typename T>
__device__ void affine_relu_turned(const T *x, const float *scale, const float *shift, count rows, T *out, count length) {
    turn(x, rows, out, length, [=](T value, count row) { return fmaxf(fmaf(scale[row], (float)value, shift[row]), 0.0f); });
}

// The sum of what the threads of a block have, for its first thread. Blocks are of THREADS threads.
__device__ inline float block_sum(float mine) {
    __shared__ float parts[THREADS];
    parts[threadIdx.x] = mine;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    float sum = parts[0];
    __syncthreads();
    return sum;
}

// Each block's part of the sums: (rows, gridDim.x).
template <typename T>
__device__ void sums(const T *x, float *out, count length) {
    float sum = 0.0f;
    x += blockIdx.y * length;
    EACH(at) sum += (float)x[at];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.y * (count)gridDim.x + blockIdx.x] = sum;
}

// The same of the squares of the distances from the mean.
template <typename T>
__device__ void squares(const T *x, const float *mean, float *out, count length) {
    float sum = 0.0f, middle = mean[blockIdx.y];
    x += blockIdx.y * length;
    EACH(at) {
        float distance = (float)x[at] - middle;
        sum = fmaf(distance, distance, sum);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.y * (count)gridDim.x + blockIdx.x] = sum;
}

// scale * d, where d is the gradient by z, 0 where the ReLU was closed; added to `sum` where `onto` is not 0. In `parts`, each
// block's part of the sums of d and of d * (x - mean) * inverse: (2, rows, gridDim.x).
template <typename T>
__device__ void gate(const T *x, const T *gradient, const float *scale, const float *shift, const float *means, const float *inverses,
                     count onto, T *sum, float *parts, count length) {
    unsigned row = blockIdx.y, rows = gridDim.y;
    float factor = scale[row], offset = shift[row], mean = means[row], inverse = inverses[row];
    float first = 0.0f, second = 0.0f;
    x += row * length;
    gradient += row * length;
    sum += row * length;
    EACH(at) {
        float value = (float)x[at];
        float open = fmaf(factor, value, offset) > 0.0f ? (float)gradient[at] : 0.0f;
        first += open;
        second = fmaf(open, (value - mean) * inverse, second);
        sum[at] = onto ? fmaf(factor, open, (float)sum[at]) : factor * open;
    }
    first = block_sum(first);
    second = block_sum(second);
    if (threadIdx.x == 0) {
        count place = row * (count)gridDim.x + blockIdx.x;
        parts[place] = first;
        parts[rows * (count)gridDim.x + place] = second;
    }
}

// sum - level - slope * x
template <typename T>
__device__ void resolved(const T *sum, const T *x, const float *level, const float *slope, T *out, count length) {
    float offset = level[blockIdx.y], factor = slope[blockIdx.y];
    sum += blockIdx.y * length;
    x += blockIdx.y * length;
    out += blockIdx.y * length;
    EACH(at) out[at] = fmaf(-factor, (float)x[at], (float)sum[at] - offset);
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

// A pooling of maps of height by width to maps of rows by columns: windows of side by side at steps of 2, `before` cells of padding.
struct Pool { count height, width, rows, columns, side, before; };

// The largest value that a window sees, or where `mean` is not 0 the mean of those on the map, of relu(scale * x + shift).
template <typename T>
__device__ void pooled(const T *x, const float *scale, const float *shift, Pool pool, count mean, T *out, count length) {
    float factor = scale[blockIdx.y], offset = shift[blockIdx.y];
    count places = pool.rows * pool.columns, pixels = pool.height * pool.width;
    x += blockIdx.y * (length / places) * pixels;
    out += blockIdx.y * length;
    EACH(at) {
        const T *map = x + at / places * pixels;
        count top = 2 * (at % places / pool.columns), left = 2 * (at % pool.columns);
        float sum = 0.0f, most = 0.0f;
        unsigned seen = 0;
        for (count y = top; y < top + pool.side; ++y)
            for (count column = left; column < left + pool.side; ++column) {
                if (y < pool.before || column < pool.before) continue;
                count down = y - pool.before, right = column - pool.before;
                if (down >= pool.height || right >= pool.width) continue;
                float value = fmaxf(fmaf(factor, (float)map[down * pool.width + right], offset), 0.0f);
                sum += value;
                most = fmaxf(most, value);
                ++seen;
            }
        out[at] = mean ? sum / (float)seen : most;
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
    extern "C" __global__ void turned_##T(const T *x, count rows, T *out, count length) { turned(x, rows, out, length); }  \
    extern "C" __global__ void affine_relu_turned_##T(const T *x, const float *scale, const float *shift, count rows,      \
                                                      T *out, count length) {                                              \
        affine_relu_turned(x, scale, shift, rows, out, length);                                                            \
    }                                                                                                                      \
    extern "C" __global__ void sums_##T(const T *x, float *out, count length) { sums(x, out, length); }                    \
    extern "C" __global__ void squares_##T(const T *x, const float *mean, float *out, count length) {                      \
        squares(x, mean, out, length);                                                                                     \
    }                                                                                                                      \
    extern "C" __global__ void gate_##T(const T *x, const T *gradient, const float *scale, const float *shift,             \
                                        const float *means, const float *inverses, count onto, T *sum, float *parts,       \
                                        count length) {                                                                    \
        gate(x, gradient, scale, shift, means, inverses, onto, sum, parts, length);                                        \
    }                                                                                                                      \
    extern "C" __global__ void resolved_##T(const T *sum, const T *x, const float *level, const float *slope, T *out,      \
                                            count length) {                                                                \
        resolved(sum, x, level, slope, out, length);                                                                       \
    }                                                                                                                      \
    extern "C" __global__ void dropout_##T(const T *x, Mask mask, T *out, count length) { dropout(x, mask, out, length); } \
    extern "C" __global__ void pooled_##T(const T *x, const float *scale, const float *shift, Pool pool, count mean, T *out,\
                                          count length) {                                                                  \
        pooled(x, scale, shift, pool, mean, out, length);                                                                  \
    }                                                                                                                      \
    extern "C" __global__ void max_pool_back_##T(const T *x, const T *gradient, Sides of, T *out, count length) {          \
        max_pool_back(x, gradient, of, out, length);                                                                       \
    }

typedef float f32;
OF(f32)
OF(f16)
OF(bf16)
