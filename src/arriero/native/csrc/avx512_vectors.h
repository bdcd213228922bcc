/* Operations of AVX-512 that both of its levels use. Needs TARGET. */
#include <immintrin.h>
#include <string.h>

typedef __m512i VI;
typedef __m512 VF;
typedef __m512i VW;
typedef __m512i VX;

TARGET AR_INLINE VF zeros(void) { return _mm512_setzero_ps(); }
TARGET AR_INLINE VF add(VF a, VF b) { return _mm512_add_ps(a, b); }
TARGET AR_INLINE VF multiply(VF a, VF b) { return _mm512_mul_ps(a, b); }
TARGET AR_INLINE VF fused(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
TARGET AR_INLINE VF spread_fp32(float a) { return _mm512_set1_ps(a); }
TARGET AR_INLINE VF to_fp32(VI a) { return _mm512_cvtepi32_ps(a); }
TARGET AR_INLINE VF load_fp32(const float *a) { return _mm512_loadu_ps(a); }
TARGET AR_INLINE VF load_bf16(const uint16_t *a) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)a));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
TARGET AR_INLINE __mmask16 first_lanes(int count) { return (__mmask16)(count >= 16 ? 0xffff : (1u << count) - 1); }
TARGET AR_INLINE VF load_some(const float *a, int count) { return _mm512_maskz_loadu_ps(first_lanes(count), a); }
TARGET AR_INLINE VF load_some_bf16(const uint16_t *a, int count) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(count), a));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
TARGET AR_INLINE void store_some(float *to, VF a, int count) { _mm512_mask_storeu_ps(to, first_lanes(count), a); }

/* ((lanes 0-7 + lanes 8-15) halved again and again): the order of every level */
TARGET AR_INLINE float sum_lanes(VF a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

TARGET AR_INLINE void split4(const uint8_t *w, VW *low, VW *high) {
    const __m512i mask = _mm512_set1_epi8(15), codes = _mm512_loadu_si512(w);
    *low = _mm512_and_si512(codes, mask);
    *high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask);
}
TARGET AR_INLINE VW load8(const uint8_t *w) { return _mm512_loadu_si512(w); }

TARGET AR_INLINE VX spread_codes(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm512_set1_epi32(four);
}

/* Memory is read ahead of the processor's own guess, which ends at each page. */
TARGET AR_INLINE void fetch(const uint8_t *w, int bits) {
    const int lines = bits == 4 ? 4 : 8;
    for (int i = 0; i < lines; ++i) _mm_prefetch((const char *)w + 4096 + i * 64, _MM_HINT_T0);
}

TARGET AR_INLINE uint32_t largest_bits(const float *x) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), magnitude);
    const __m512i b = _mm512_and_si512(_mm512_loadu_si512(x + 16), magnitude);
    return (uint32_t)_mm512_reduce_max_epi32(_mm512_max_epi32(a, b));
}

TARGET AR_INLINE int32_t round_group(const float *x, float inverse, int8_t *q) {
    const __m512 by = _mm512_set1_ps(inverse);
    const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), by));
    const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), by));
    _mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtepi32_epi8(b));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
}
