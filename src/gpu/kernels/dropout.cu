// What is dropped, as densenet_engine::train::Mask has it; images of so many pixels.
struct Mask { count key, pixels; unsigned limit; float scale; };

// SplitMix64's output function on a step of its counter.
__device__ inline count mix(count value) {
    value += 0x9e3779b97f4a7c15ull;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

// Zero where 32 drawn bits are below the limit; sixteen channels are a block, of which each pair draws together.
template <typename T>
__device__ void dropout(const T *x, Mask mask, T *out, unsigned length) {
    count channel = blockIdx.y;
    unsigned pixels = mask.pixels;
    x += channel * length;
    out += channel * length;
    EACH(1, at) {
        count image = at / pixels, place = channel / 16 * pixels + at % pixels;
        count bits = mix(mix(mask.key ^ image) + mix(8 * place + channel % 16 / 2)) >> 32 * (channel % 2);
        out[at] = (float)x[at] * mask.scale * (float)((unsigned)bits >= mask.limit);
    }
}

#define OF(T)                                                                                            \
    extern "C" __global__ void dropout_##T(const T *x, Mask mask, T *out, count length) {                \
        dropout(x, mask, out, (unsigned)length);                                                         \
    }
OF_ALL
#undef OF
