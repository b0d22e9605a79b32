// cuBLAS of a card that is the CPU: products of matrices, which lie column by column.
#include <vector>

#include "card.h"

namespace {
// cudaDataType
enum Type { F32 = 0, F64 = 1, F16_ = 2, BF16_ = 14 };
enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
// cublasComputeType
enum { COMPUTE_16F = 64, COMPUTE_32F = 68, COMPUTE_64F = 70, COMPUTE_32F_FAST_16F = 74, COMPUTE_32F_FAST_16BF = 75, COMPUTE_32F_FAST_TF32 = 77 };

struct Handle { void *stream = nullptr; };

double read(const void *from, Type type, size_t at) {
    switch (type) {
        case F32: return ((const float *)from)[at];
        case F64: return ((const double *)from)[at];
        case F16_: return ((const __half *)from)[at];
        default: return ((const __nv_bfloat16 *)from)[at];
    }
}
void write(void *to, Type type, size_t at, double value) {
    switch (type) {
        case F32: ((float *)to)[at] = (float)value; break;
        case F64: ((double *)to)[at] = value; break;
        case F16_: ((__half *)to)[at] = value; break;
        default: ((__nv_bfloat16 *)to)[at] = value;
    }
}

// Of op(a), (m, k) column by column.
std::vector<double> matrix(const void *from, Type type, bool turned, size_t m, size_t k, size_t leading) {
    std::vector<double> values(m * k);
    for (size_t column = 0; column < k; ++column)
        for (size_t row = 0; row < m; ++row)
            values[column * m + row] = read(from, type, turned ? row * leading + column : column * leading + row);
    return values;
}

struct Product {
    bool turned_a, turned_b;
    int m, n, k;
    double alpha, beta;
    const void *a, *b;
    void *c;
    Type type_a, type_b, type_c;
    int lda, ldb, ldc;
};

// Sums are exact enough that what differs from a card's is the card's rounding.
void multiply(const Product &p) {
    const size_t m = p.m, n = p.n, k = p.k;
    auto a = matrix(p.a, p.type_a, p.turned_a, m, k, p.lda), b = matrix(p.b, p.type_b, p.turned_b, k, n, p.ldb);
    std::vector<double> sums(m);
    for (size_t column = 0; column < n; ++column) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (size_t inner = 0; inner < k; ++inner) {
            const double by = b[column * k + inner];
            const double *from = &a[inner * m];
            for (size_t row = 0; row < m; ++row) sums[row] += from[row] * by;
        }
        for (size_t row = 0; row < m; ++row) {
            size_t at = column * (size_t)p.ldc + row;
            double before = p.beta == 0 ? 0 : p.beta * read(p.c, p.type_c, at);
            write(p.c, p.type_c, at, p.alpha * sums[row] + before);
        }
    }
}

size_t bytes(Type type) { return type == F64 ? 8 : type == F32 ? 4 : 2; }

int products(void *handle, const Product &p, long long step_a, long long step_b, long long step_c, int count) {
    if (!handle) return NOT_INITIALIZED;
    if (p.m < 0 || p.n < 0 || p.k < 0 || p.lda < std::max(1, p.turned_a ? p.k : p.m) || p.ldb < std::max(1, p.turned_b ? p.n : p.k) ||
        p.ldc < std::max(1, p.m))
        return INVALID_VALUE;
    if (p.type_a != p.type_b) return NOT_SUPPORTED;
    return card::enqueue(((Handle *)handle)->stream, [=, given = p] {
        // Again for each launch of a graph.
        Product p = given;
        for (int at = 0; at < count; ++at) {
            multiply(p);
            p.a = (const char *)p.a + step_a * (long long)bytes(p.type_a);
            p.b = (const char *)p.b + step_b * (long long)bytes(p.type_b);
            p.c = (char *)p.c + step_c * (long long)bytes(p.type_c);
        }
    }) ? EXECUTION_FAILED : SUCCESS;
}
}

#define API extern "C" __attribute__((visibility("default"))) int
API cublasCreate_v2(void **handle) { *handle = new Handle; return SUCCESS; }
API cublasDestroy_v2(void *handle) { delete (Handle *)handle; return SUCCESS; }
API cublasSetStream_v2(void *handle, void *stream) { ((Handle *)handle)->stream = stream; return SUCCESS; }
API cublasSetMathMode(void *, int) { return SUCCESS; }
API cublasSetWorkspace_v2(void *, void *, size_t) { return SUCCESS; }

API cublasGemmStridedBatchedEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                               int lda, long long step_a, const void *b, int type_b, int ldb, long long step_b, const void *beta, void *c,
                               int type_c, int ldc, long long step_c, int count, int compute, int) {
    double factors[2];
    const void *given[2] = {alpha, beta};
    for (int at = 0; at < 2; ++at)
        factors[at] = read(given[at], compute == COMPUTE_16F ? F16_ : compute == COMPUTE_64F ? F64 : F32, 0);
    Product product{turn_a != 0, turn_b != 0, m, n, k, factors[0], factors[1], a, b, c, (Type)type_a, (Type)type_b, (Type)type_c, lda, ldb, ldc};
    return products(handle, product, step_a, step_b, step_c, count);
}
API cublasGemmEx(void *handle, int turn_a, int turn_b, int m, int n, int k, const void *alpha, const void *a, int type_a, int lda,
                 const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc, int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, turn_a, turn_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c, type_c, ldc, 0,
                                      1, compute, algorithm);
}
API cublasDgemmStridedBatched(void *handle, int turn_a, int turn_b, int m, int n, int k, const double *alpha, const double *a, int lda,
                              long long step_a, const double *b, int ldb, long long step_b, const double *beta, double *c, int ldc,
                              long long step_c, int count) {
    return cublasGemmStridedBatchedEx(handle, turn_a, turn_b, m, n, k, alpha, a, F64, lda, step_a, b, F64, ldb, step_b, beta, c, F64, ldc,
                                      step_c, count, COMPUTE_64F, 0);
}
