/* Kernels in plain C for any processor: the vectors of 16 are arrays, which compilers turn into what the processor has. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#define TARGET
#define MOST_ROWS 2
#define BLOCKS(X) X(2) X(1)
#define UNROLL
#define EACH for (int lane = 0; lane < 16; ++lane)

typedef struct {
    int32_t of[16];
} VI;
typedef struct {
    float of[16];
} VF;
typedef struct {
    uint8_t of[64];
} VW;
typedef struct {
    int32_t of[4];
} VX;

AR_INLINE VF zeros(void) { return (VF){{0}}; }
AR_INLINE VF add(VF x, VF y) {
    EACH x.of[lane] += y.of[lane];
    return x;
}
AR_INLINE VF multiply(VF x, VF y) {
    EACH x.of[lane] *= y.of[lane];
    return x;
}
AR_INLINE VF fused_exactly(VF x, VF y, VF z) {
    EACH z.of[lane] = fmaf(x.of[lane], y.of[lane], z.of[lane]);
    return z;
}
AR_INLINE VF spread_fp32(float x) {
    VF all;
    EACH all.of[lane] = x;
    return all;
}
AR_INLINE VF to_fp32(VI x) {
    VF floats;
    EACH floats.of[lane] = (float)x.of[lane];
    return floats;
}
AR_INLINE VF load_some(const float *x, int count) {
    VF some = zeros();
    memcpy(some.of, x, (count < 16 ? count : 16) * sizeof(float));
    return some;
}
AR_INLINE VF load_fp32(const float *x) { return load_some(x, 16); }
AR_INLINE VF load_some_bf16(const uint16_t *x, int count) {
    VF some = zeros();
    for (int lane = 0; lane < count && lane < 16; ++lane) {
        const uint32_t bits = (uint32_t)x[lane] << 16;
        memcpy(&some.of[lane], &bits, 4);
    }
    return some;
}
AR_INLINE VF load_bf16(const uint16_t *x) { return load_some_bf16(x, 16); }
AR_INLINE void store_some(float *to, VF x, int count) { memcpy(to, x.of, (count < 16 ? count : 16) * sizeof(float)); }
AR_INLINE float sum_lanes(VF x) {
    for (int half = 8; half; half /= 2)
        for (int lane = 0; lane < half; ++lane) x.of[lane] += x.of[lane + half];
    return x.of[0];
}

AR_INLINE VW load8(const uint8_t *w) {
    VW codes;
    memcpy(codes.of, w, 64);
    return codes;
}
AR_INLINE void split4(const uint8_t *w, VW *low, VW *high) {
    for (int i = 0; i < 64; ++i) {
        low->of[i] = w[i] & 15;
        high->of[i] = w[i] >> 4;
    }
}
AR_INLINE VX spread4(const int8_t *q) { return (VX){{q[0], q[1], q[2], q[3]}}; }
AR_INLINE VX spread8(const int8_t *q) { return spread4(q); }
AR_INLINE void fetch(const uint8_t *w, int bits) {
    (void)w;
    (void)bits;
}
AR_INLINE VI begin8(int32_t shift) {
    VI all;
    EACH all.of[lane] = shift;
    return all;
}
AR_INLINE VI begin4(int32_t shift) { return begin8(shift); }
AR_INLINE VI dot8(VI sum, VW w, VX x) {
    EACH {
        const uint8_t *four = w.of + 4 * lane;
        sum.of[lane] += four[0] * x.of[0] + four[1] * x.of[1] + four[2] * x.of[2] + four[3] * x.of[3];
    }
    return sum;
}
AR_INLINE VI dot4(VI sum, VW w, VX x) { return dot8(sum, w, x); }
AR_INLINE VI end4(VI sum, int32_t shift) {
    (void)shift;
    return sum;
}

AR_INLINE uint32_t largest_bits(const float *x) {
    uint32_t found = 0;
    for (int i = 0; i < AR_GROUP; ++i) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        bits &= 0x7fffffffu;
        found = bits > found ? bits : found;
    }
    return found;
}
AR_INLINE int32_t round_group(const float *x, float inverse, int8_t *q) {
    int32_t sum = 0;
    for (int i = 0; i < AR_GROUP; ++i) {
        const int32_t code = (int32_t)lrintf(x[i] * inverse);
        q[i] = (int8_t)code;
        sum += code;
    }
    return sum;
}

#define fused fused_exactly
#include "quantise_kernel.h"
#include "lowbit_kernel.h"
#undef fused
/* a fused multiply-add that the processor does not have would cost a call for every weight */
#define fused(x, y, z) add(multiply(x, y), z)
#include "dense_kernel.h"

const ar_kernels ar_kernels_portable = {quantise, lowbit, dense_fp32, dense_bf16};
