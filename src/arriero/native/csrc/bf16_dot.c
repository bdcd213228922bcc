/* Dense bf16 products by AVX512_BF16: two products an instruction and lane, activations rounded to bf16. */
#if defined(__x86_64__)
#include "kernels.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define UNROLL _Pragma("GCC unroll 16")
enum { COLUMNS = 4, LANES = 32 };

TARGET void ar_round_bf16(const float *x, int k, uint16_t *rounded) {
    for (int at = 0; at < k; at += 16) {
        const __mmask16 there = (__mmask16)(k - at >= 16 ? 0xffff : (1u << (k - at)) - 1);
        const __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(there, x + at));
        _mm256_mask_storeu_epi16(rounded + at, there, (__m256i)half);
    }
}

TARGET AR_INLINE __m512bh load_bf16s(const uint16_t *from, __mmask32 there, int whole) {
    return (__m512bh)(whole ? _mm512_loadu_si512(from) : _mm512_maskz_loadu_epi16(there, from));
}

TARGET AR_INLINE float sum_of(__m512 a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

TARGET AR_INLINE void step(const uint16_t *w, const uint16_t *x, const dense_work *work, int at, int whole, __m512 sums[],
                           int rows, int columns) {
    const __mmask32 there = whole ? 0xffffffffu : (1u << (work->k - at)) - 1;
    __m512bh inputs[4];
    UNROLL for (int i = 0; i < rows; ++i) inputs[i] = load_bf16s(x + (size_t)i * work->ldx + at, there, whole);
    UNROLL for (int c = 0; c < columns; ++c) {
        const __m512bh weights = load_bf16s(w + (size_t)c * work->k + at, there, whole);
        UNROLL for (int i = 0; i < rows; ++i)
            sums[i * columns + c] = _mm512_dpbf16_ps(sums[i * columns + c], weights, inputs[i]);
    }
}

TARGET AR_INLINE void block(const dense_work *work, int column, int row, int rows, int columns) {
    const uint16_t *x = (const uint16_t *)work->x + (size_t)row * work->ldx;
    const uint16_t *w = (const uint16_t *)work->w + (size_t)column * work->k;
    __m512 sums[4 * COLUMNS];
    int at = 0;
    UNROLL for (int i = 0; i < rows * columns; ++i) sums[i] = _mm512_setzero_ps();
    for (; at + LANES <= work->k; at += LANES) step(w, x, work, at, 1, sums, rows, columns);
    if (at < work->k) step(w, x, work, at, 0, sums, rows, columns);
    UNROLL for (int i = 0; i < rows; ++i)
        UNROLL for (int c = 0; c < columns; ++c) {
            const float sum = sum_of(sums[i * columns + c]);
            work->y[(size_t)(row + i) * work->ldy + column + c] = work->bias ? sum + work->bias[column + c] : sum;
        }
}

TARGET AR_INLINE void all_rows(const dense_work *work, int column, int first_row, int last_row, int columns) {
    int row = first_row;
    for (; row + 4 <= last_row; row += 4) block(work, column, row, 4, columns);
    for (; row + 2 <= last_row; row += 2) block(work, column, row, 2, columns);
    for (; row < last_row; ++row) block(work, column, row, 1, columns);
}

TARGET void ar_bf16_dot(const dense_work *work, int first, int last, int first_row, int last_row) {
    int column = first;
    for (; column + COLUMNS <= last; column += COLUMNS) all_rows(work, column, first_row, last_row, COLUMNS);
    for (; column < last; ++column) all_rows(work, column, first_row, last_row, 1);
}
#endif
