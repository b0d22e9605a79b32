// The poolings behind a norm's ReLU, and the way back through the stem's.

// A pooling of maps of height by width to maps of rows by columns: windows of side by side at steps of 2, `before` cells of padding.
struct Pool { unsigned height, width, rows, columns, side, before; };

// The largest value that a window sees, or where `mean` is not 0 the mean of those on the map, of relu(scale * x + shift).
template <typename T>
__device__ void pooled(const T *x, const float *scale, const float *shift, Pool pool, count mean, T *out, unsigned length) {
    float factor = scale[blockIdx.y], offset = shift[blockIdx.y];
    unsigned places = pool.rows * pool.columns, pixels = pool.height * pool.width;
    x += (count)blockIdx.y * (length / places) * pixels;
    out += (count)blockIdx.y * length;
    EACH(1, at) {
        unsigned image = at / places, place = at - image * places, row = place / pool.columns;
        unsigned top = 2 * row, left = 2 * (place - row * pool.columns);
        const T *map = x + (count)image * pixels;
        float sum = 0.0f, most = 0.0f;
        unsigned seen = 0;
        for (unsigned y = top; y < top + pool.side; ++y)
            for (unsigned column = left; column < left + pool.side; ++column) {
                // What lies before the map is far behind its end.
                unsigned down = y - pool.before, right = column - pool.before;
                if (down >= pool.height || right >= pool.width) continue;
                float value = fmaxf(fmaf(factor, (float)map[down * pool.width + right], offset), 0.0f);
                sum += value;
                most = fmaxf(most, value);
                ++seen;
            }
        out[at] = mean ? sum / (float)seen : most;
    }
}

// The largest values of maps (images, height, width, channels), to maps that lie likewise. `length` counts runs of 8 channels.
template <typename T>
__device__ void pooled_last(const T *x, const float *scale, const float *shift, Pool pool, unsigned channels, T *out, unsigned length) {
    unsigned runs = channels / 8, places = pool.rows * pool.columns;
    EACH(1, at) {
        unsigned cell = at / runs, first = (at - cell * runs) * 8;
        unsigned image = cell / places, place = cell - image * places, row = place / pool.columns;
        unsigned top = 2 * row, left = 2 * (place - row * pool.columns);
        const T *map = x + (count)image * pool.height * pool.width * channels + first;
        float factors[8], offsets[8], most[8] = {};
        for (unsigned i = 0; i < 8; ++i) factors[i] = scale[first + i], offsets[i] = shift[first + i];
        for (unsigned y = top; y < top + pool.side; ++y)
            for (unsigned column = left; column < left + pool.side; ++column) {
                unsigned down = y - pool.before, right = column - pool.before;
                if (down >= pool.height || right >= pool.width) continue;
                auto run = read<8>(map + ((count)down * pool.width + right) * channels);
                for (unsigned i = 0; i < 8; ++i) most[i] = fmaxf(most[i], fmaf(factors[i], (float)run.at[i], offsets[i]));
            }
        Run<T, 8> found;
        for (unsigned i = 0; i < 8; ++i) found.at[i] = most[i];
        write(out + (count)cell * channels + first, found);
    }
}

// Of a map.
struct Sides { unsigned height, width; };

// The first of the largest values, row by row, that a window 3x3 sees at (row, column) of a max-pool with stride 2 and padding 1.
template <typename T>
__device__ unsigned largest(const T *map, Sides of, unsigned row, unsigned column) {
    unsigned best = ~0u;
    float most = 0.0f;
    for (unsigned y = row ? 2 * row - 1 : 0; y <= 2 * row + 1 && y < of.height; ++y)
        for (unsigned x = column ? 2 * column - 1 : 0; x <= 2 * column + 1 && x < of.width; ++x) {
            float value = map[y * of.width + x];
            if (best == ~0u || value > most) best = y * of.width + x, most = value;
        }
    return best;
}

// The gradient by that max-pool's input: the sum of those of the up to four windows of which a value is the largest. A thread has
// the 2x2 values from (2 row, 2 column) on, which the same four windows see; `length` counts these, of all images.
template <typename T>
__device__ void max_pool_back(const T *x, const T *gradient, Sides of, T *out, unsigned length) {
    unsigned rows = (of.height + 1) / 2, columns = (of.width + 1) / 2, places = rows * columns, pixels = of.height * of.width;
    count images = length / places;
    x += blockIdx.y * images * pixels;
    out += blockIdx.y * images * pixels;
    gradient += blockIdx.y * images * places;
    EACH(1, at) {
        unsigned image = at / places, place = at - image * places, row = place / columns, column = place - row * columns;
        const T *map = x + (count)image * pixels, *given = gradient + (count)image * places;
        float sums[2][2] = {};
        for (unsigned down = 0; down < 2; ++down)
            for (unsigned along = 0; along < 2; ++along) {
                unsigned r = row + down, c = column + along;
                if (r >= rows || c >= columns) continue;
                unsigned best = largest(map, of, r, c);
                float value = given[r * columns + c];
                for (unsigned y = 0; y < 2; ++y)
                    for (unsigned x = 0; x < 2; ++x)
                        if (best == (2 * row + y) * of.width + 2 * column + x && 2 * column + x < of.width) sums[y][x] += value;
            }
        for (unsigned y = 0; y < 2; ++y)
            for (unsigned x = 0; x < 2; ++x)
                if (2 * row + y < of.height && 2 * column + x < of.width)
                    out[(count)image * pixels + (2 * row + y) * of.width + 2 * column + x] = sums[y][x];
    }
}

#define OF(T)                                                                                                               \
    extern "C" __global__ void pooled_##T(const T *x, const float *scale, const float *shift, Pool pool, count mean, T *out, \
                                          count length) {                                                                   \
        pooled(x, scale, shift, pool, mean, out, (unsigned)length);                                                         \
    }                                                                                                                       \
    extern "C" __global__ void max_pool_back_##T(const T *x, const T *gradient, Sides of, T *out, count length) {           \
        max_pool_back(x, gradient, of, out, (unsigned)length);                                                              \
    }
OF_ALL
#undef OF

#define OF(T)                                                                                                  \
    extern "C" __global__ void pooled_last_##T(const T *x, const float *scale, const float *shift, Pool pool,  \
                                               count channels, T *out, count length) {                         \
        pooled_last(x, scale, shift, pool, (unsigned)channels, out, (unsigned)length);                         \
    }
OF_HALF
#undef OF
