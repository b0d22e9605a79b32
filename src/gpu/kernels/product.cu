// A norm, its ReLU and the 1x1 convolution behind them in one: what the norm makes is never written.

// A block's tile of the outputs, and how many channels it takes at a time.
#define PIXELS 128
#define OUTPUTS 128
#define DEPTH 32
// Tiles of what is read that are on their way or being multiplied.
#define STAGES 4

// Rows are 16 bytes longer than their values, so that eight of them lie in all banks.
template <typename T> struct Stage {
    T x[DEPTH][PIXELS + 8];
    T kernel[OUTPUTS][DEPTH + 8];
};

#ifndef ON_CPU
// 16 bytes to shared memory, behind the program's back; zeros where `there` is not set.
__device__ inline void fetch(void *to, const void *from, bool there) {
    unsigned place = (unsigned)__cvta_generic_to_shared(to), bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void fetch_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// All groups but the last so many have come.
template <unsigned N> __device__ inline void fetched() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// Four matrices of 8x8 from shared memory, of which each lane names a row: lanes 0 to 7 those of the first, and so on. A lane gets
// of each the two values from column 2 (lane % 4) on in row lane / 4; turned, those of that column in those rows.
__device__ inline void load(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}
__device__ inline void load_turned(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
}

// sum += a b of (16, 16) and (16, 8). With g = lane / 4 and t = lane % 4 a lane has of a the values (g, 2t), (g, 2t + 1), then those
// of row g + 8, of column + 8, of both; of b (2t, g), (2t + 1, g), then those of row + 8; of the sum (g, 2t), (g, 2t + 1), (g + 8, ..).
template <typename T> __device__ void multiply(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
#if __CUDA_ARCH__ >= 800
#define MULTIPLY(T)                                                                                                             \
    template <> __device__ inline void multiply<T>(float(&sum)[4], const unsigned(&a)[4], unsigned b0, unsigned b1) {           \
        asm("mma.sync.aligned.m16n8k16.row.col.f32." #T "." #T ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "            \
            "{%0, %1, %2, %3};"                                                                                                 \
            : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                                            \
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                                    \
    }
MULTIPLY(f16)
MULTIPLY(bf16)
#endif
#endif

// relu(scale * x + shift) of two values side by side.
template <typename T> __device__ inline unsigned relu_two(unsigned two, float2 scale, float2 shift) {
    Run<T, 2> run = *(Run<T, 2> *)&two;
    run.at[0] = fmaxf(fmaf(scale.x, (float)run.at[0], shift.x), 0.0f);
    run.at[1] = fmaxf(fmaf(scale.y, (float)run.at[1], shift.y), 0.0f);
    return *(unsigned *)&run;
}

// relu(scale * x + shift) of rows x (channels, length) by a kernel (outputs, channels): rows (outputs, length). Or LAST: relu(that +
// bias), the outputs of a pixel side by side, (length, outputs). All three sizes are multiples of 8. A block is a tile of pixels,
// blockIdx.x, and of outputs, blockIdx.y.
template <bool LAST, typename T>
__device__ void product(const T *x, const float *scale, const float *shift, const T *kernel, const float *bias, unsigned channels,
                        unsigned outputs, T *out, unsigned length) {
    extern __shared__ uint4 shared[];
    auto *stages = (Stage<T> *)shared;
    unsigned steps = (channels + DEPTH - 1) / DEPTH;
    float *scales = (float *)(stages + STAGES), *shifts = scales + steps * DEPTH;
    unsigned first = blockIdx.x * PIXELS, top = blockIdx.y * OUTPUTS;
    unsigned thread = threadIdx.x, lane = thread % 32, across = thread / 32 % 4 * 32, down = thread / 128 * 64;

    auto fetch_step = [&](unsigned step) {
        if (step < steps) {
            Stage<T> &stage = stages[step % STAGES];
            for (unsigned turn = 0; turn < DEPTH * PIXELS / 8 / THREADS; ++turn) {
                unsigned at = turn * THREADS + thread, row = at / (PIXELS / 8), column = at % (PIXELS / 8) * 8;
                unsigned channel = step * DEPTH + row;
                bool there = channel < channels && first + column < length;
                fetch(&stage.x[row][column], there ? x + (count)channel * length + first + column : x, there);
            }
            for (unsigned turn = 0; turn < OUTPUTS * DEPTH / 8 / THREADS; ++turn) {
                unsigned at = turn * THREADS + thread, row = at / (DEPTH / 8), column = at % (DEPTH / 8) * 8;
                unsigned channel = step * DEPTH + column;
                bool there = top + row < outputs && channel < channels;
                fetch(&stage.kernel[row][column], there ? kernel + (count)(top + row) * channels + channel : kernel, there);
            }
        }
        fetch_end();
    };
    for (unsigned step = 0; step < STAGES - 1; ++step) fetch_step(step);
    // Channels that are not there are zero behind the ReLU too.
    for (unsigned channel = thread; channel < steps * DEPTH; channel += THREADS) {
        scales[channel] = channel < channels ? scale[channel] : 0.0f;
        shifts[channel] = channel < channels ? shift[channel] : 0.0f;
    }

    // Of a warp: 32 pixels, 16 at a time, by 64 outputs, 8 at a time.
    float sums[2][8][4] = {};
    for (unsigned step = 0; step < steps; ++step) {
        fetched<STAGES - 2>();
        __syncthreads();
        // To where the last step's was.
        fetch_step(step + STAGES - 1);
        Stage<T> &stage = stages[step % STAGES];
#pragma unroll
        for (unsigned deep = 0; deep < DEPTH; deep += 16) {
            unsigned a[2][4], b[4][4];
            unsigned channel = step * DEPTH + deep + lane % 4 * 2;
            float2 scale_low = *(float2 *)&scales[channel], scale_high = *(float2 *)&scales[channel + 8];
            float2 shift_low = *(float2 *)&shifts[channel], shift_high = *(float2 *)&shifts[channel + 8];
#pragma unroll
            for (unsigned m = 0; m < 2; ++m) {
                load_turned(a[m], &stage.x[deep + lane / 16 * 8 + lane % 8][across + m * 16 + lane / 8 % 2 * 8]);
                a[m][0] = relu_two<T>(a[m][0], scale_low, shift_low);
                a[m][1] = relu_two<T>(a[m][1], scale_low, shift_low);
                a[m][2] = relu_two<T>(a[m][2], scale_high, shift_high);
                a[m][3] = relu_two<T>(a[m][3], scale_high, shift_high);
            }
#pragma unroll
            for (unsigned n = 0; n < 4; ++n)
                load(b[n], &stage.kernel[down + n * 16 + lane / 16 * 8 + lane % 8][deep + lane / 8 % 2 * 8]);
#pragma unroll
            for (unsigned m = 0; m < 2; ++m)
#pragma unroll
                for (unsigned n = 0; n < 8; ++n) multiply<T>(sums[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
        }
    }
    fetched<0>();
    __syncthreads();

    // Through shared memory, so that 16 bytes are written at once.
    T *tile = (T *)shared;
    const unsigned pitch = 128 + 8;
#pragma unroll
    for (unsigned n = 0; n < 8; ++n) {
        unsigned output = down + n * 8 + lane % 4 * 2;
        float2 more = {0.0f, 0.0f};
        if (LAST && top + output < outputs) more = *(const float2 *)&bias[top + output];
#pragma unroll
        for (unsigned m = 0; m < 2; ++m)
#pragma unroll
            for (unsigned half = 0; half < 2; ++half) {
                unsigned pixel = across + m * 16 + half * 8 + lane / 4;
                float one = sums[m][n][2 * half], other = sums[m][n][2 * half + 1];
                Run<T, 2> two;
                two.at[0] = LAST ? fmaxf(one + more.x, 0.0f) : one;
                two.at[1] = LAST ? fmaxf(other + more.y, 0.0f) : other;
                if (LAST) {
                    write(tile + pixel * pitch + output, two);
                } else {
                    tile[output * pitch + pixel] = two.at[0];
                    tile[(output + 1) * pitch + pixel] = two.at[1];
                }
            }
    }
    __syncthreads();
    unsigned column = thread % 16 * 8, left = (LAST ? top : first) + column, wide = LAST ? outputs : length;
    unsigned above = LAST ? first : top, end = LAST ? length : outputs;
    if (left >= wide) return;
    for (unsigned row = thread / 16; row < 128 && above + row < end; row += THREADS / 16)
        write(out + (count)(above + row) * wide + left, read<8>(tile + row * pitch + column));
}

#if __CUDA_ARCH__ >= 800
#define OF(T)                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                                    \
        product_##T(const T *x, const float *scale, const float *shift, const T *kernel, count channels, count outputs, T *out, \
                    count length) {                                                                                             \
        product<false>(x, scale, shift, kernel, nullptr, (unsigned)channels, (unsigned)outputs, out, (unsigned)length);         \
    }                                                                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                                    \
        product_relu_##T(const T *x, const float *scale, const float *shift, const T *kernel, const float *bias,                \
                         count channels, count outputs, T *out, count length) {                                                 \
        product<true>(x, scale, shift, kernel, bias, (unsigned)channels, (unsigned)outputs, out, (unsigned)length);             \
    }
OF_HALF
#undef OF
#endif
