// Rows as columns, and back.

// Of a tile on its way: a block has one.
#define TILE 64

// Rows (rows, length) as columns (length, rows), each value by `value(x, its row)`; N values are read and written at once. A block is a
// tile, one row of tiles behind another.
template <unsigned N, typename T, typename Value>
__device__ void turn(const T *x, unsigned rows, T *out, Value value, unsigned length) {
    // So wide that the values of a column lie in as many banks as may be.
    __shared__ T tile[TILE][TILE + 2];
    unsigned wide = (length + TILE - 1) / TILE, top = blockIdx.x / wide * TILE, left = blockIdx.x % wide * TILE;
    unsigned lane = threadIdx.x % 32 * N, line = threadIdx.x / 32;
#pragma unroll
    for (unsigned down = line; down < TILE; down += THREADS / 32)
#pragma unroll
        for (unsigned along = lane; along < TILE; along += 32 * N) {
            if (top + down >= rows || left + along >= length) continue;
            auto run = read<N>(x + (count)(top + down) * length + left + along);
            for (unsigned i = 0; i < N; ++i) tile[down][along + i] = value(run.at[i], top + down);
        }
    __syncthreads();
#pragma unroll
    for (unsigned down = line; down < TILE; down += THREADS / 32)
#pragma unroll
        for (unsigned along = lane; along < TILE; along += 32 * N) {
            if (left + down >= length || top + along >= rows) continue;
            Run<T, N> run;
            for (unsigned i = 0; i < N; ++i) run.at[i] = tile[along + i][down];
            write(out + (count)(left + down) * rows + top + along, run);
        }
}

// Pairs, 4 bytes, where there is nothing but pairs.
template <typename T, typename Value> __device__ void turn(const T *x, count rows, T *out, count length, Value value) {
    if (rows % 2 == 0 && length % 2 == 0 && (count)x % 4 == 0 && (count)out % 4 == 0)
        turn<2>(x, (unsigned)rows, out, value, (unsigned)length);
    else
        turn<1>(x, (unsigned)rows, out, value, (unsigned)length);
}

// Channels of a packed image.
#define PACKED 8

// Images (gridDim.y, channels, length) as (gridDim.y, length, PACKED): the channels of a pixel, and zeros behind them.
template <typename T>
__device__ void packed(const T *x, count channels, T *out, unsigned length) {
    x += blockIdx.y * channels * length;
    out += (count)blockIdx.y * PACKED * length;
    EACH(1, at) {
        Run<T, PACKED> run;
        for (unsigned channel = 0; channel < PACKED; ++channel)
            run.at[channel] = channel < channels ? (float)x[(count)channel * length + at] : 0.0f;
        write(out + (count)at * PACKED, run);
    }
}

#define OF(T)                                                                                                             \
    extern "C" __global__ void turned_##T(const T *x, count rows, T *out, count length) {                                 \
        turn(x, rows, out, length, [](T value, count) { return value; });                                                 \
    }                                                                                                                     \
    /* max(scale * x + shift, 0), turned. */                                                                              \
    extern "C" __global__ void affine_relu_turned_##T(const T *x, const float *scale, const float *shift, count rows,     \
                                                      T *out, count length) {                                             \
        turn(x, rows, out, length,                                                                                        \
             [=](T value, count row) { return fmaxf(fmaf(scale[row], (float)value, shift[row]), 0.0f); });                \
    }                                                                                                                     \
    extern "C" __global__ void packed_##T(const T *x, count channels, T *out, count length) {                             \
        packed(x, channels, out, (unsigned)length);                                                                       \
    }
OF_HALF
#undef OF
