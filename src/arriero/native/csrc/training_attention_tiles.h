/* What both passes of the training attention do with tiles, by AVX512_BF16: two products an instruction and lane.
 *
 * A product reads words: two bf16 that are next to each other in the dimension that is summed over. Two forms of a
 * matrix x [tokens][head_dim] have them:
 *   lined: word [dim / 2][token], the dims of a token paired (summed over dims);
 *   paired: word [token / 2][dim], a dim of two tokens paired (summed over tokens). */
#include "training_attention.h"

#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define UNROLL _Pragma("GCC unroll 16")
#define LANES 16
#define LOG2_E 1.44269504088896341f

static inline int rounded_up(int n, int to) { return (n + to - 1) / to * to; }
static inline int smaller(int a, int b) { return a < b ? a : b; }

/* sums[rows][columns] of vectors += over pairs: word a[p * a_step + r * a_row] times words b[p * b_step ...] */
TARGET AR_INLINE void multiply(const uint32_t *a, size_t a_row, size_t a_step, const uint32_t *b, size_t b_step, int pairs,
                               __m512 sums[], int rows, int columns) {
    for (int p = 0; p < pairs; ++p, a += a_step, b += b_step) {
        __m512bh right[2];
        UNROLL for (int c = 0; c < columns; ++c) right[c] = (__m512bh)_mm512_loadu_si512(b + c * LANES);
        UNROLL for (int r = 0; r < rows; ++r) {
            const __m512bh left = (__m512bh)_mm512_set1_epi32((int)a[r * a_row]);
            UNROLL for (int c = 0; c < columns; ++c)
                sums[r * columns + c] = _mm512_dpbf16_ps(sums[r * columns + c], left, right[c]);
        }
    }
}

TARGET AR_INLINE void clear(__m512 sums[], int count) {
    UNROLL for (int i = 0; i < count; ++i) sums[i] = _mm512_setzero_ps();
}

/* 2^x for x up to about 127; 0 below -150, NaN of NaN. Off by 2e-7 of itself; the polynomial is Cephes's (exp2f.c). */
TARGET AR_INLINE __m512 power_of_2(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-200.0f), x); /* in this order NaN stays */
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(1.535336188319500e-4f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.339887440266574e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.618437357674640e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.550332471162809e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.402264791363012e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.931472028550421e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

/* words of two rows of floats: a in the low halves, b in the high ones */
TARGET AR_INLINE __m512i paired_words(__m512 a, __m512 b) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                           5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

TARGET AR_INLINE void store_bf16(uint16_t *to, __m512 x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x));
}

/* which queries of a tile that begins at `start` come at or after a key */
TARGET AR_INLINE uint32_t sees(int key, int start) {
    return key <= start ? 0xffffffffu : key - start >= AR_QUERIES ? 0 : 0xffffffffu << (key - start);
}

/* the first key that each query of a tile sees; gives the first that any of them does, to a whole number of blocks */
TARGET AR_INLINE int first_keys(const ar_causal *w, int row, int start, int queries, __m512i first[2]) {
    const int32_t *from = w->first + (size_t)row * w->tokens + start;
    for (int c = 0; c < 2; ++c) {
        const int there = queries - c * LANES;
        const __mmask16 mask = there >= LANES ? 0xffff : there <= 0 ? 0 : (__mmask16)((1u << there) - 1);
        first[c] = _mm512_mask_loadu_epi32(_mm512_set1_epi32(start), mask, from + c * LANES);
    }
    const int least = _mm512_reduce_min_epi32(_mm512_min_epi32(first[0], first[1]));
    return least < 0 ? 0 : least / AR_KEYS * AR_KEYS;
}

/* 16 x 16 words, transposed in place */
TARGET AR_INLINE void transpose(__m512i x[16]) {
    __m512i y[16];
    UNROLL for (int i = 0; i < 8; ++i) {
        y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    UNROLL for (int i = 0; i < 4; ++i) {
        x[4 * i] = _mm512_unpacklo_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 1] = _mm512_unpackhi_epi64(y[4 * i], y[4 * i + 2]);
        x[4 * i + 2] = _mm512_unpacklo_epi64(y[4 * i + 1], y[4 * i + 3]);
        x[4 * i + 3] = _mm512_unpackhi_epi64(y[4 * i + 1], y[4 * i + 3]);
    }
    UNROLL for (int i = 0; i < 4; ++i) {
        y[i] = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88);
        y[4 + i] = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xdd);
        y[8 + i] = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88);
        y[12 + i] = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; ++i) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[8 + i], 0x88);
        x[8 + i] = _mm512_shuffle_i32x4(y[i], y[8 + i], 0xdd);
        x[4 + i] = _mm512_shuffle_i32x4(y[4 + i], y[12 + i], 0x88);
        x[12 + i] = _mm512_shuffle_i32x4(y[4 + i], y[12 + i], 0xdd);
    }
}

/* 16 words of each of 16 tokens, of which there are fewer perhaps. A masked load that misses the cache is slow. */
TARGET AR_INLINE void read_words(const uint16_t *x, int64_t stride, int tokens, int words, __m512i part[16]) {
    const __mmask16 there = (__mmask16)((1u << words) - 1);
    if (tokens >= 16 && words >= LANES) {
        UNROLL for (int i = 0; i < 16; ++i) part[i] = _mm512_loadu_si512(x + i * stride);
        return;
    }
    for (int i = 0; i < 16; ++i)
        part[i] = i < tokens ? _mm512_maskz_loadu_epi32(there, x + i * stride) : _mm512_setzero_si512();
}

/* tokens of x (further ones up to `width` are 0) in lined form, `width` words a line, a multiple of 16 */
TARGET static inline void line_up(const uint16_t *x, int64_t stride, int tokens, int head_dim, uint32_t *to, int width) {
    for (int token = 0; token < width; token += LANES)
        for (int word = 0; word < head_dim / 2; word += LANES) {
            const int words = smaller(LANES, head_dim / 2 - word);
            __m512i part[16];
            read_words(x + token * stride + 2 * word, stride, tokens - token, words, part);
            transpose(part);
            UNROLL for (int i = 0; i < 16; ++i)
                if (i < words) _mm512_storeu_si512(to + (size_t)(word + i) * width + token, part[i]);
        }
}

/* tokens of x (further ones up to `padded`, which is even, are 0) in paired form, head_dim words a pair of tokens */
TARGET static inline void pair_up(const uint16_t *x, int64_t stride, int tokens, int padded, int head_dim, uint32_t *to) {
    for (int token = 0; token < padded; token += 2, to += head_dim)
        for (int dim = 0; dim < head_dim; dim += LANES) {
            const uint16_t *at = x + token * stride + dim;
            __m512i low = _mm512_setzero_si512(), high = low;
            if (token < tokens) low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at));
            if (token + 1 < tokens) high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(at + stride)));
            _mm512_storeu_si512(to + dim, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
        }
}
