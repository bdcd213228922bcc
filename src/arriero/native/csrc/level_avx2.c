/* Kernels for AVX2 with FMA: the vectors of 16 are pairs of vectors of 8. */
#if defined(__x86_64__)
#include "kernels.h"

#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma")))
#define MOST_ROWS 2
#define BLOCKS(X) X(2) X(1)

typedef struct {
    __m256i a, b;
} VI;
typedef struct {
    __m256 a, b;
} VF;
typedef VI VW;
typedef __m256i VX;

TARGET AR_INLINE VF zeros(void) { return (VF){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
TARGET AR_INLINE VF add(VF x, VF y) { return (VF){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
TARGET AR_INLINE VF multiply(VF x, VF y) { return (VF){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
TARGET AR_INLINE VF fused(VF x, VF y, VF z) {
    return (VF){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
TARGET AR_INLINE VF spread_fp32(float x) { return (VF){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
TARGET AR_INLINE VF to_fp32(VI x) { return (VF){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
TARGET AR_INLINE VF load_fp32(const float *x) { return (VF){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
TARGET AR_INLINE __m256 widen(const uint16_t *x) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
TARGET AR_INLINE VF load_bf16(const uint16_t *x) { return (VF){widen(x), widen(x + 8)}; }
TARGET AR_INLINE VF load_some(const float *x, int count) {
    float padded[16] = {0};
    if (count >= 16) return load_fp32(x);
    memcpy(padded, x, count * sizeof(float));
    return load_fp32(padded);
}
TARGET AR_INLINE VF load_some_bf16(const uint16_t *x, int count) {
    uint16_t padded[16] = {0};
    memcpy(padded, x, count * sizeof(uint16_t));
    return load_bf16(padded);
}
TARGET AR_INLINE void store_some(float *to, VF x, int count) {
    float whole[16];
    _mm256_storeu_ps(count >= 16 ? to : whole, x.a);
    _mm256_storeu_ps((count >= 16 ? to : whole) + 8, x.b);
    if (count < 16) memcpy(to, whole, count * sizeof(float));
}
TARGET AR_INLINE float sum_lanes(VF x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

TARGET AR_INLINE VW load8(const uint8_t *w) {
    return (VW){_mm256_loadu_si256((const __m256i *)w), _mm256_loadu_si256((const __m256i *)(w + 32))};
}
TARGET AR_INLINE void split4(const uint8_t *w, VW *low, VW *high) {
    const __m256i mask = _mm256_set1_epi8(15);
    const VW codes = load8(w);
    *low = (VW){_mm256_and_si256(codes.a, mask), _mm256_and_si256(codes.b, mask)};
    *high = (VW){_mm256_and_si256(_mm256_srli_epi16(codes.a, 4), mask),
                 _mm256_and_si256(_mm256_srli_epi16(codes.b, 4), mask)};
}
TARGET AR_INLINE VX spread4(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm256_set1_epi32(four);
}
TARGET AR_INLINE VX spread8(const int8_t *q) { return spread4(q); }
TARGET AR_INLINE void fetch(const uint8_t *w, int bits) {
    const int lines = bits == 4 ? 4 : 8;
    for (int i = 0; i < lines; ++i) _mm_prefetch((const char *)w + 4096 + i * 64, _MM_HINT_T0);
}

/* 4 bits: pairs are summed in 16 bits; a group adds 8 of them, at most 8 * 2 * 15 * 127 = 30480, which fits */
TARGET AR_INLINE VI begin4(int32_t shift) {
    (void)shift;
    return (VI){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
TARGET AR_INLINE VI dot4(VI sum, VW w, VX x) {
    return (VI){_mm256_add_epi16(sum.a, _mm256_maddubs_epi16(w.a, x)),
                _mm256_add_epi16(sum.b, _mm256_maddubs_epi16(w.b, x))};
}
TARGET AR_INLINE VI end4(VI sum, int32_t shift) {
    const __m256i ones = _mm256_set1_epi16(1), start = _mm256_set1_epi32(shift);
    return (VI){_mm256_add_epi32(_mm256_madd_epi16(sum.a, ones), start),
                _mm256_add_epi32(_mm256_madd_epi16(sum.b, ones), start)};
}

/* 8 bits: a pair may overflow 16 bits, so even and odd bytes are multiplied apart, as 16-bit numbers */
TARGET AR_INLINE VI begin8(int32_t shift) { return (VI){_mm256_set1_epi32(shift), _mm256_set1_epi32(shift)}; }
TARGET AR_INLINE __m256i products8(__m256i w, VX x) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    return _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(x, 8)));
}
TARGET AR_INLINE VI dot8(VI sum, VW w, VX x) {
    return (VI){_mm256_add_epi32(sum.a, products8(w.a, x)), _mm256_add_epi32(sum.b, products8(w.b, x))};
}

TARGET AR_INLINE uint32_t largest_bits(const float *x) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < AR_GROUP; i += 8)
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(x + i)), magnitude));
    uint32_t lanes[8], found = 0;
    _mm256_storeu_si256((__m256i *)lanes, most);
    for (int i = 0; i < 8; ++i) found = lanes[i] > found ? lanes[i] : found;
    return found;
}

TARGET AR_INLINE int32_t round_group(const float *x, float inverse, int8_t *q) {
    int32_t codes[AR_GROUP], sum = 0;
    for (int i = 0; i < AR_GROUP; i += 8)
        _mm256_storeu_si256((__m256i *)(codes + i),
                            _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse))));
    for (int i = 0; i < AR_GROUP; ++i) {
        q[i] = (int8_t)codes[i];
        sum += codes[i];
    }
    return sum;
}

#include "quantise_kernel.h"
#include "lowbit_kernel.h"
#include "dense_kernel.h"

const ar_kernels ar_kernels_avx2 = {quantise, lowbit, dense_fp32, dense_bf16};
#endif
