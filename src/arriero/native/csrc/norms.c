/* What is done to one row at a time, by the level in use; the embedding. */
#include "vector_kernels.h"

#include <string.h>

const ar_vector_kernels *ar_vector_kernels_now(void) {
#if defined(__x86_64__)
    if (ar_level() >= AR_AVX512) return &ar_vectors_avx512;
    if (ar_level() == AR_AVX2) return &ar_vectors_avx2;
#endif
    return &ar_vectors_portable;
}

void ar_add_rows(float *x, const float *y, const float *z, int n) { ar_vector_kernels_now()->add(x, y, z, n); }

void ar_norm_row(int kind, const float *x, const float *weight, const float *bias, float eps, float *out, int n) {
    ar_vector_kernels_now()->norm(kind, x, weight, bias, eps, out, n);
}

void ar_activation(int kind, const float *x, const float *times, float *out, int n) {
    ar_vector_kernels_now()->activation(kind, x, times, out, n);
}

void ar_embed_row(const void *table, int dtype, long row, int add, float *out, int n) {
    const float *wide = (const float *)table + row * n;
    const uint16_t *half = (const uint16_t *)table + row * n;
    for (int i = 0; i < n; i++) {
        float x;
        if (dtype == AR_ELEMENT_BF16) {
            uint32_t bits = (uint32_t)half[i] << 16;
            memcpy(&x, &bits, 4);
        } else {
            x = wide[i];
        }
        out[i] = add ? out[i] + x : x;
    }
}
