// z = max(scale * x + shift, 0) over rows x of `length` values: a row for each blockIdx.y, of its own scale and shift.
// The half types are read and written by hand: NVRTC has none of the toolkit's headers where only the driver is.

struct f16 {
    unsigned short bits;
    __device__ operator float() const {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
    __device__ void operator=(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
};

struct bf16 {
    unsigned short bits;
    __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
    // To the nearest, ties to even; what is no number stays none.
    __device__ void operator=(float value) {
        unsigned whole = __float_as_uint(value);
        bits = value == value ? (whole + 0x7fff + (whole >> 16 & 1)) >> 16 : 0x7fff;
    }
};

template <typename T>
__device__ void affine_relu(const T *x, const float *scale, const float *shift, T *z, unsigned long long length) {
    float factor = scale[blockIdx.y], offset = shift[blockIdx.y];
    x += blockIdx.y * length;
    z += blockIdx.y * length;
    unsigned long long step = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long at = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x; at < length; at += step)
        z[at] = fmaxf(fmaf(factor, (float)x[at], offset), 0.0f);
}

#define OF(NAME, T)                                                                                                            \
    extern "C" __global__ void NAME(const T *x, const float *scale, const float *shift, T *z, unsigned long long length) {     \
        affine_relu(x, scale, shift, z, length);                                                                               \
    }

OF(affine_relu_f32, float)
OF(affine_relu_f16, f16)
OF(affine_relu_bf16, bf16)
