/* Kernels for AVX-512 without VNNI (Skylake and its kin): products in 16 bits, exact all the same. */
#if defined(__x86_64__)
#include "kernels.h"

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")))
#include "avx512_vectors.h"
#define MOST_ROWS 4
#define BLOCKS(X) X(4) X(2) X(1)

TARGET AR_INLINE VX spread4(const int8_t *q) { return spread_codes(q); }
TARGET AR_INLINE VX spread8(const int8_t *q) { return spread_codes(q); }

/* 4 bits: pairs are summed in 16 bits; a group adds 8 of them, at most 8 * 2 * 15 * 127 = 30480, which fits */
TARGET AR_INLINE VI begin4(int32_t shift) {
    (void)shift;
    return _mm512_setzero_si512();
}
TARGET AR_INLINE VI dot4(VI sum, VW w, VX a) { return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, a)); }
TARGET AR_INLINE VI end4(VI sum, int32_t shift) {
    return _mm512_add_epi32(_mm512_madd_epi16(sum, _mm512_set1_epi16(1)), _mm512_set1_epi32(shift));
}

/* 8 bits: a pair may overflow 16 bits, so even and odd bytes are multiplied apart, as 16-bit numbers */
TARGET AR_INLINE VI begin8(int32_t shift) { return _mm512_set1_epi32(shift); }
TARGET AR_INLINE VI dot8(VI sum, VW w, VX a) {
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(w, _mm512_set1_epi16(255)),
                                           _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(w, 8), _mm512_srai_epi16(a, 8));
    return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}

#include "quantise_kernel.h"
#include "lowbit_kernel.h"
#include "dense_kernel.h"

const ar_kernels ar_kernels_avx512 = {quantise, lowbit, dense_fp32, dense_bf16};
#endif
