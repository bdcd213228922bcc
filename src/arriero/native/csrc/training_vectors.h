/* Sixteen floats at a time for the kernels of training: loads and stores of float32 and bfloat16, e^x. AVX-512.
 *
 * Whoever includes this defines TARGET, and HAS_BF16 where the processor rounds to bfloat16 by itself. */
#include "training.h"

#include <immintrin.h>
#include <math.h>

#define T_INLINE TARGET AR_INLINE

enum { ALL = 0xffff };

T_INLINE __mmask16 first_lanes(long n) { return (__mmask16)(n >= 16 ? ALL : (1u << n) - 1); }

/* BODY(at, there) for the vectors of [first, last): the last one, where it is not whole, with a mask, which costs */
#define VECTORS(first, last, BODY)                                                        \
    do {                                                                                  \
        long at_ = (first);                                                               \
        for (; at_ + 16 <= (last); at_ += 16) BODY(at_, ALL);                             \
        if (at_ < (last)) BODY(at_, first_lanes((last)-at_));                             \
    } while (0)

T_INLINE __m512 widened(__m256i half) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)); }

T_INLINE __m512 load(int kind, const void *from, long at, __mmask16 there) {
    const float *wide = (const float *)from + at;
    const uint16_t *half = (const uint16_t *)from + at;
    if (__builtin_constant_p(there) && there == ALL)
        return kind == AR_WIDE ? _mm512_loadu_ps(wide) : widened(_mm256_loadu_si256((const __m256i *)half));
    return kind == AR_WIDE ? _mm512_maskz_loadu_ps(there, wide) : widened(_mm256_maskz_loadu_epi16(there, half));
}

/* to the nearest, ties to even; a NaN stays one */
T_INLINE __m256i narrowed(__m512 x) {
#ifdef HAS_BF16
    return (__m256i)_mm512_cvtneps_pbh(x);
#else
    const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_srli_epi32(rounded, 16), nan, _mm512_set1_epi32(0x7fc0)));
#endif
}

T_INLINE void store(int kind, void *to, long at, __mmask16 there, __m512 x) {
    float *wide = (float *)to + at;
    uint16_t *half = (uint16_t *)to + at;
    if (__builtin_constant_p(there) && there == ALL) {
        if (kind == AR_WIDE) _mm512_storeu_ps(wide, x);
        else _mm256_storeu_si256((__m256i *)half, narrowed(x));
    } else if (kind == AR_WIDE) {
        _mm512_mask_storeu_ps(wide, there, x);
    } else {
        _mm256_mask_storeu_epi16(half, there, narrowed(x));
    }
}

/* the lanes' sum, always in this order */
T_INLINE float lanes_sum(__m512 a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* e^x, off by about 1e-7 of itself, with 0, infinity and NaN where they belong. The polynomial is Cephes's (expf.c). */
T_INLINE __m512 exponential(__m512 x) {
    /* beyond these the result is 0 or infinity anyway; of two operands min and max give the second where one is NaN */
    x = _mm512_max_ps(_mm512_set1_ps(-110.0f), _mm512_min_ps(_mm512_set1_ps(110.0f), x));
    const __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)), 8);
    __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), x);
    rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(-2.12194440e-4f), rest);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, rest, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, rest), rest, _mm512_add_ps(rest, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, whole);
}
