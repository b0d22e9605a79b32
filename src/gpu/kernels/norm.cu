// A norm and its ReLU, forward and back.

// z = max(scale * x + shift, 0)
template <unsigned N, typename T>
__device__ void affine_relu(const T *x, const float *scale, const float *shift, T *z, unsigned length) {
    float factor = scale[blockIdx.y], offset = shift[blockIdx.y];
    x += (count)blockIdx.y * length;
    z += (count)blockIdx.y * length;
    EACH(N, at) {
        auto run = read<N>(x + at);
        for (unsigned i = 0; i < N; ++i) run.at[i] = fmaxf(fmaf(factor, (float)run.at[i], offset), 0.0f);
        write(z + at, run);
    }
}

// Values that a thread keeps of a row, so that it is read once.
#define HELD 32

// Each block's part of a row: the mean, and the sum of the squares of the distances from it; (rows, gridDim.x, 2).
template <unsigned N, typename T>
__device__ void moments(const T *x, float *parts, unsigned length) {
    unsigned begin = blockIdx.x * THREADS * HELD, end = min(length, begin + THREADS * HELD);
    Run<T, N> held[HELD / N];
    float sum = 0.0f, squares = 0.0f;
    x += (count)blockIdx.y * length;
#pragma unroll
    for (unsigned turn = 0; turn < HELD / N; ++turn) {
        unsigned at = begin + (turn * THREADS + threadIdx.x) * N;
        if (at >= end) continue;
        held[turn] = read<N>(x + at);
        for (unsigned i = 0; i < N; ++i) sum += (float)held[turn].at[i];
    }
    float mean = block_sum(sum) / (float)(end - begin);
#pragma unroll
    for (unsigned turn = 0; turn < HELD / N; ++turn) {
        if (begin + (turn * THREADS + threadIdx.x) * N >= end) continue;
        for (unsigned i = 0; i < N; ++i) {
            float distance = (float)held[turn].at[i] - mean;
            squares = fmaf(distance, distance, squares);
        }
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) {
        parts += ((count)blockIdx.y * gridDim.x + blockIdx.x) * 2;
        parts[0] = mean;
        parts[1] = squares;
    }
}

// Of the parts of so many blocks, by one block a row: mean, biased variance and 1 / sqrt(variance + eps).
extern "C" __global__ void moments_of_f32(const float *parts, count blocks, float eps, float *mean, float *var, float *inverse,
                                          count length) {
    parts += blockIdx.y * blocks * 2;
    float sum = 0.0f, squares = 0.0f;
    auto share = [=](count block) { return (float)min((count)THREADS * HELD, length - block * THREADS * HELD); };
    for (count block = threadIdx.x; block < blocks; block += THREADS) sum += share(block) * parts[2 * block];
    float middle = block_sum(sum) / (float)length;
    for (count block = threadIdx.x; block < blocks; block += THREADS) {
        float distance = parts[2 * block] - middle;
        squares += fmaf(share(block) * distance, distance, parts[2 * block + 1]);
    }
    float variance = block_sum(squares) / (float)length;
    if (threadIdx.x == 0) {
        mean[blockIdx.y] = middle;
        var[blockIdx.y] = variance;
        inverse[blockIdx.y] = 1.0f / sqrtf(variance + eps);
    }
}

// Scale and shift of a norm, of `length` channels.
extern "C" __global__ void affine_of_f32(const float *weight, const float *bias, const float *mean, const float *inverse,
                                         float *scale, float *shift, count length) {
    EACH(1, at) {
        float factor = weight[at] * inverse[at];
        scale[at] = factor;
        shift[at] = bias[at] - mean[at] * factor;
    }
}

// Mean, and variance times a factor, of `length` channels to where they are asked for.
extern "C" __global__ void noted_f32(const float *mean, const float *var, float factor, float *to_mean, float *to_var, count length) {
    EACH(1, at) {
        to_mean[at] = mean[at];
        to_var[at] = factor * var[at];
    }
}

// scale * d, where d is the gradient by z, 0 where the ReLU was closed; added to `sum` where `onto` is not 0. In `parts`, each
// block's part of the sums of d and of d * (x - mean) * inverse: (rows, gridDim.x, 2).
template <unsigned N, typename T>
__device__ void gate(const T *x, const T *gradient, const float *scale, const float *shift, const float *means, const float *inverses,
                     count onto, T *sum, float *parts, unsigned length) {
    unsigned row = blockIdx.y;
    float factor = scale[row], offset = shift[row], mean = means[row], inverse = inverses[row];
    float first = 0.0f, second = 0.0f;
    x += (count)row * length;
    gradient += (count)row * length;
    sum += (count)row * length;
    EACH(N, at) {
        auto values = read<N>(x + at), by = read<N>(gradient + at);
        Run<T, N> sums;
        if (onto) sums = read<N>(sum + at);
        for (unsigned i = 0; i < N; ++i) {
            float value = (float)values.at[i];
            float open = fmaf(factor, value, offset) > 0.0f ? (float)by.at[i] : 0.0f;
            first += open;
            second = fmaf(open, (value - mean) * inverse, second);
            sums.at[i] = onto ? fmaf(factor, open, (float)sums.at[i]) : factor * open;
        }
        write(sum + at, sums);
    }
    first = block_sum(first);
    second = block_sum(second);
    if (threadIdx.x == 0) {
        parts += ((count)row * gridDim.x + blockIdx.x) * 2;
        parts[0] = first;
        parts[1] = second;
    }
}

// Of the parts of so many blocks, by one block a row: the sums of d by the norm's shift and of d * (x - mean) * inverse by its
// scale. Their means, times the scale, are added to `mean` and `along` where `onto` is not 0. Rows are of `length`.
extern "C" __global__ void gate_of_f32(const float *parts, count blocks, const float *scale, count onto, float *by_weight,
                                       float *by_bias, float *mean, float *along, count length) {
    unsigned row = blockIdx.y;
    parts += row * blocks * 2;
    float first = 0.0f, second = 0.0f;
    for (count block = threadIdx.x; block < blocks; block += THREADS) {
        first += parts[2 * block];
        second += parts[2 * block + 1];
    }
    first = block_sum(first);
    second = block_sum(second);
    if (threadIdx.x == 0) {
        by_bias[row] = first;
        by_weight[row] = second;
        float factor = scale[row] / (float)length;
        mean[row] = (onto ? mean[row] : 0.0f) + factor * first;
        along[row] = (onto ? along[row] : 0.0f) + factor * second;
    }
}

// sum - mean - along * (x - middle) * inverse
template <unsigned N, typename T>
__device__ void resolved(const T *sum, const T *x, const float *mean, const float *along, const float *middles, const float *inverses,
                         T *out, unsigned length) {
    float slope = along[blockIdx.y] * inverses[blockIdx.y], offset = mean[blockIdx.y] - middles[blockIdx.y] * slope;
    sum += (count)blockIdx.y * length;
    x += (count)blockIdx.y * length;
    out += (count)blockIdx.y * length;
    EACH(N, at) {
        auto values = read<N>(x + at), sums = read<N>(sum + at);
        for (unsigned i = 0; i < N; ++i) sums.at[i] = fmaf(-slope, (float)values.at[i], (float)sums.at[i] - offset);
        write(out + at, sums);
    }
}

template <unsigned N, typename T> __device__ void widened(const T *x, float *to, unsigned length) {
    EACH(N, at) {
        auto run = read<N>(x + at);
        for (unsigned i = 0; i < N; ++i) to[at + i] = run.at[i];
    }
}

#define OF(T)                                                                                                            \
    extern "C" __global__ void affine_relu_##T(const T *x, const float *scale, const float *shift, T *z, count length) { \
        RUNS(T, even(x) && even(z), affine_relu, x, scale, shift, z)                                                     \
    }                                                                                                                    \
    extern "C" __global__ void moments_##T(const T *x, float *parts, count length) {                                     \
        RUNS(T, even(x), moments, x, parts)                                                                              \
    }                                                                                                                    \
    extern "C" __global__ void gate_##T(const T *x, const T *gradient, const float *scale, const float *shift,           \
                                        const float *means, const float *inverses, count onto, T *sum, float *parts,     \
                                        count length) {                                                                  \
        RUNS(T, even(x) && even(gradient) && even(sum), gate, x, gradient, scale, shift, means, inverses, onto, sum,     \
             parts)                                                                                                      \
    }                                                                                                                    \
    extern "C" __global__ void resolved_##T(const T *sum, const T *x, const float *mean, const float *along,             \
                                            const float *middles, const float *inverses, T *out, count length) {         \
        RUNS(T, even(sum) && even(x) && even(out), resolved, sum, x, mean, along, middles, inverses, out)                \
    }                                                                                                                    \
    extern "C" __global__ void widened_##T(const T *x, float *to, count length) { RUNS(T, even(x), widened, x, to) }
OF_ALL
#undef OF
