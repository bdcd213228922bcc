/* Kernels for AVX-512 with VNNI: unsigned weight codes times signed activations, four products an instruction and lane. */
#if defined(__x86_64__)
#include "kernels.h"

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#include "avx512_vectors.h"
#define MOST_ROWS 6
#define MOST_SHARED 4 /* with the sums of a shared scale 6 rows would not fit into the registers */
#define BLOCKS(X) X(6) X(4) X(3) X(2) X(1)

TARGET AR_INLINE VX spread4(const int8_t *q) { return spread_codes(q); }
TARGET AR_INLINE VX spread8(const int8_t *q) { return spread_codes(q); }
TARGET AR_INLINE VI begin4(int32_t shift) { return _mm512_set1_epi32(shift); }
TARGET AR_INLINE VI begin8(int32_t shift) { return _mm512_set1_epi32(shift); }
TARGET AR_INLINE VI dot4(VI sum, VW w, VX a) { return _mm512_dpbusd_epi32(sum, w, a); }
TARGET AR_INLINE VI dot8(VI sum, VW w, VX a) { return _mm512_dpbusd_epi32(sum, w, a); }
TARGET AR_INLINE VI end4(VI sum, int32_t shift) {
    (void)shift;
    return sum;
}

#include "quantise_kernel.h"
#include "lowbit_kernel.h"
#include "dense_kernel.h"

const ar_kernels ar_kernels_avx512vnni = {quantise, lowbit, dense_fp32, dense_bf16};
#endif
