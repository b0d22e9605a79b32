// cuDNN of a card that is the CPU: convolutions in two dimensions, forward and the two ways back, of any strides.
#include <vector>

#include "card.h"

namespace {
enum { SUCCESS = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000, EXECUTION_FAILED = 5000 };
// cudnnDataType
enum Type { F32 = 0, F64 = 1, HALF = 2, BFLOAT16 = 9 };
enum { NCHW = 0, NHWC = 1 };

struct Handle { void *stream = nullptr; };
struct Four { Type type; int size[4]; long long step[4]; };
struct Convolution { int padding[2], stride[2], dilation[2]; Type compute; };
// A step's algorithm asks for so much, to see that it is given.
const size_t WORKSPACE = 1000;

double read(const void *from, Type type, long long at) {
    switch (type) {
        case F32: return ((const float *)from)[at];
        case F64: return ((const double *)from)[at];
        case HALF: return ((const __half *)from)[at];
        default: return ((const __nv_bfloat16 *)from)[at];
    }
}
void write(void *to, Type type, long long at, double value) {
    switch (type) {
        case F32: ((float *)to)[at] = (float)value; break;
        case F64: ((double *)to)[at] = value; break;
        case HALF: ((__half *)to)[at] = value; break;
        default: ((__nv_bfloat16 *)to)[at] = value;
    }
}

void fill(Four &four, int format, Type type, const int *size) {
    four.type = type;
    std::copy_n(size, 4, four.size);
    const long long c = size[1], h = size[2], w = size[3];
    const long long planes[4] = {c * h * w, h * w, w, 1}, last[4] = {h * w * c, 1, w * c, c};
    std::copy_n(format == NHWC ? last : planes, 4, four.step);
}

enum Way { FORWARD, BY_INPUT, BY_KERNEL };

bool fits(const Four &x, const Four &w, const Convolution &by, const Four &y) {
    bool good = x.size[0] == y.size[0] && x.size[1] == w.size[1] && w.size[0] == y.size[1];
    for (int at = 0; at < 2; ++at)
        good &= y.size[2 + at] == (x.size[2 + at] + 2 * by.padding[at] - by.dilation[at] * (w.size[2 + at] - 1) - 1) / by.stride[at] + 1;
    // Two types are computed in f32, as cuDNN's table of them says for bf16.
    return good && x.type == w.type && w.type == y.type && (x.type != BFLOAT16 || by.compute == F32);
}

int convolve(Way way, void *handle, double alpha, double beta, Four x, void *px, Four w, void *pw, Convolution by, Four y, void *py,
             size_t workspace) {
    if (!fits(x, w, by, y) || workspace < WORKSPACE) return BAD_PARAM;
    if (!px || !pw || !py) return BAD_PARAM;
    return card::enqueue(((Handle *)handle)->stream, [=] {
        const Four &of = way == FORWARD ? y : way == BY_INPUT ? x : w;
        void *out = way == FORWARD ? py : way == BY_INPUT ? px : pw;
        auto index = [](const Four &four, int a, int b, int c, int d) {
            return ((size_t)(a * four.size[1] + b) * four.size[2] + c) * four.size[3] + d;
        };
        auto load = [&](const Four &four, void *from) {
            std::vector<float> values((size_t)four.size[0] * four.size[1] * four.size[2] * four.size[3]);
            size_t at = 0;
            for (int a = 0; a < four.size[0]; ++a)
                for (int b = 0; b < four.size[1]; ++b)
                    for (int c = 0; c < four.size[2]; ++c)
                        for (int d = 0; d < four.size[3]; ++d)
                            values[at++] = (float)read(from, four.type, a * four.step[0] + b * four.step[1] + c * four.step[2] + d * four.step[3]);
            return values;
        };
        std::vector<float> vx, vw, vy;
        if (way != BY_INPUT) vx = load(x, px);
        if (way != BY_KERNEL) vw = load(w, pw);
        if (way != FORWARD) vy = load(y, py);
        std::vector<double> sums((size_t)of.size[0] * of.size[1] * of.size[2] * of.size[3]);
        // A row of the output at a time: the columns of it that the tap reads lie on the map.
        for (int n = 0; n < y.size[0]; ++n)
            for (int o = 0; o < y.size[1]; ++o)
                for (int i = 0; i < x.size[1]; ++i)
                    for (int u = 0; u < w.size[2]; ++u)
                        for (int v = 0; v < w.size[3]; ++v)
                            for (int r = 0; r < y.size[2]; ++r) {
                                const int row = r * by.stride[0] - by.padding[0] + u * by.dilation[0];
                                const int shift = v * by.dilation[1] - by.padding[1], stride = by.stride[1];
                                if (row < 0 || row >= x.size[2]) continue;
                                const int begin = shift < 0 ? (-shift + stride - 1) / stride : 0;
                                const int end = std::min(y.size[3], (x.size[3] - 1 - shift) / stride + 1);
                                const long long ax = (long long)index(x, n, i, row, 0) + shift;
                                const size_t aw = index(w, o, i, u, v), ay = index(y, n, o, r, 0);
                                double sum = 0;
                                if (way == FORWARD)
                                    for (int c = begin; c < end; ++c) sums[ay + c] += (double)vx[ax + c * stride] * vw[aw];
                                else if (way == BY_INPUT)
                                    for (int c = begin; c < end; ++c) sums[ax + c * stride] += (double)vw[aw] * vy[ay + c];
                                else
                                    for (int c = begin; c < end; ++c) sum += (double)vx[ax + c * stride] * vy[ay + c];
                                if (way == BY_KERNEL) sums[aw] += sum;
                            }
        size_t at = 0;
        for (int a = 0; a < of.size[0]; ++a)
            for (int b = 0; b < of.size[1]; ++b)
                for (int c = 0; c < of.size[2]; ++c)
                    for (int d = 0; d < of.size[3]; ++d, ++at) {
                        long long place = a * of.step[0] + b * of.step[1] + c * of.step[2] + d * of.step[3];
                        write(out, of.type, place, alpha * sums[at] + (beta == 0 ? 0 : beta * read(out, of.type, place)));
                    }
    }) ? EXECUTION_FAILED : SUCCESS;
}

double factor(const void *at, Type type) { return type == F64 ? *(const double *)at : *(const float *)at; }

// cudnnConvolutionFwdAlgoPerf_t, and those of the ways back.
struct Found { int algorithm, status; float time; size_t memory; int deterministic, math, reserved[3]; };
// Offered before all others for maps whose channels lie side by side, and refused when it is to run.
const int REFUSED = 5;
// The next is said to give other bits each time, for the two ways back whose algorithm 0 does.
int algorithms(const Four &x, int asked, int *count, Found *found, bool back) {
    *count = 0;
    if (asked > 0 && x.step[1] == 1) found[(*count)++] = {REFUSED, SUCCESS, 0.1f, WORKSPACE, 1, 0, {}};
    if (*count < asked) found[(*count)++] = {0, SUCCESS, 0.1f, WORKSPACE, !back, 0, {}};
    if (*count < asked) found[(*count)++] = {1, SUCCESS, 0.2f, WORKSPACE, 1, 0, {}};
    return SUCCESS;
}
}

#define API extern "C" __attribute__((visibility("default"))) int
API cudnnCreate(void **handle) { *handle = new Handle; return SUCCESS; }
API cudnnDestroy(void *handle) { delete (Handle *)handle; return SUCCESS; }
API cudnnSetStream(void *handle, void *stream) { ((Handle *)handle)->stream = stream; return SUCCESS; }
extern "C" size_t cudnnGetVersion() { return 90000; }
API cudnnCreateTensorDescriptor(void **four) { *four = new Four{}; return SUCCESS; }
API cudnnDestroyTensorDescriptor(void *four) { delete (Four *)four; return SUCCESS; }
API cudnnSetTensor4dDescriptor(void *four, int format, int type, int n, int c, int h, int w) {
    const int size[4] = {n, c, h, w};
    fill(*(Four *)four, format, (Type)type, size);
    return n > 0 && c > 0 && h > 0 && w > 0 ? SUCCESS : BAD_PARAM;
}
API cudnnSetTensor4dDescriptorEx(void *four, int type, int n, int c, int h, int w, int sn, int sc, int sh, int sw) {
    *(Four *)four = {(Type)type, {n, c, h, w}, {sn, sc, sh, sw}};
    return n > 0 && c > 0 && h > 0 && w > 0 ? SUCCESS : BAD_PARAM;
}
API cudnnCreateFilterDescriptor(void **four) { *four = new Four{}; return SUCCESS; }
API cudnnDestroyFilterDescriptor(void *four) { delete (Four *)four; return SUCCESS; }
API cudnnSetFilter4dDescriptor(void *four, int type, int format, int k, int c, int h, int w) {
    const int size[4] = {k, c, h, w};
    fill(*(Four *)four, format, (Type)type, size);
    return SUCCESS;
}
API cudnnCreateConvolutionDescriptor(void **by) { *by = new Convolution{}; return SUCCESS; }
API cudnnDestroyConvolutionDescriptor(void *by) { delete (Convolution *)by; return SUCCESS; }
API cudnnSetConvolution2dDescriptor(void *by, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int compute) {
    *(Convolution *)by = {{ph, pw}, {sh, sw}, {dh, dw}, (Type)compute};
    // 1: cross-correlation
    return mode == 1 ? SUCCESS : NOT_SUPPORTED;
}
API cudnnSetConvolutionMathType(void *, int) { return SUCCESS; }

API cudnnGetConvolutionForwardAlgorithm_v7(void *, void *x, void *w, void *by, void *y, int asked, int *count, Found *found) {
    return fits(*(Four *)x, *(Four *)w, *(Convolution *)by, *(Four *)y) ? algorithms(*(Four *)x, asked, count, found, false) : BAD_PARAM;
}
API cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, void *w, void *y, void *by, void *x, int asked, int *count, Found *found) {
    return fits(*(Four *)x, *(Four *)w, *(Convolution *)by, *(Four *)y) ? algorithms(*(Four *)x, asked, count, found, true) : BAD_PARAM;
}
API cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, void *x, void *y, void *by, void *w, int asked, int *count, Found *found) {
    return fits(*(Four *)x, *(Four *)w, *(Convolution *)by, *(Four *)y) ? algorithms(*(Four *)x, asked, count, found, true) : BAD_PARAM;
}
API cudnnGetConvolutionForwardWorkspaceSize(void *, void *, void *, void *, void *, int, size_t *bytes) { *bytes = WORKSPACE; return SUCCESS; }
API cudnnGetConvolutionBackwardDataWorkspaceSize(void *, void *, void *, void *, void *, int, size_t *bytes) {
    *bytes = WORKSPACE;
    return SUCCESS;
}
API cudnnGetConvolutionBackwardFilterWorkspaceSize(void *, void *, void *, void *, void *, int, size_t *bytes) {
    *bytes = WORKSPACE;
    return SUCCESS;
}
API cudnnConvolutionForward(void *handle, const void *alpha, void *x, void *px, void *w, void *pw, void *by, int algorithm, void *,
                            size_t workspace, const void *beta, void *y, void *py) {
    if (algorithm == REFUSED) return NOT_SUPPORTED;
    Type type = ((Four *)y)->type;
    return convolve(FORWARD, handle, factor(alpha, type), factor(beta, type), *(Four *)x, px, *(Four *)w, pw, *(Convolution *)by, *(Four *)y,
                    py, workspace);
}
API cudnnConvolutionBackwardData(void *handle, const void *alpha, void *w, void *pw, void *y, void *py, void *by, int algorithm, void *,
                                 size_t workspace, const void *beta, void *x, void *px) {
    if (algorithm == REFUSED) return NOT_SUPPORTED;
    Type type = ((Four *)y)->type;
    return convolve(BY_INPUT, handle, factor(alpha, type), factor(beta, type), *(Four *)x, px, *(Four *)w, pw, *(Convolution *)by, *(Four *)y,
                    py, workspace);
}
API cudnnConvolutionBackwardFilter(void *handle, const void *alpha, void *x, void *px, void *y, void *py, void *by, int algorithm, void *,
                                   size_t workspace, const void *beta, void *w, void *pw) {
    if (algorithm == REFUSED) return NOT_SUPPORTED;
    Type type = ((Four *)y)->type;
    return convolve(BY_KERNEL, handle, factor(alpha, type), factor(beta, type), *(Four *)x, px, *(Four *)w, pw, *(Convolution *)by, *(Four *)y,
                    py, workspace);
}
