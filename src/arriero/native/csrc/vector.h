/* Sixteen floats at a time, in GNU C's vector extension: one source for AVX-512, AVX2 and plain x86/ARM. The compiler
 * cuts a vector into what the target of the function has. */
#ifndef AR_VECTOR_H
#define AR_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* TARGET, which whoever includes this defines, must stand at every function: GCC takes vectors apart before it inlines */
#define V_INLINE TARGET static inline __attribute__((always_inline))

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef float v16u __attribute__((vector_size(64), aligned(4), may_alias)); /* in memory, wherever it lies */

/* x * y + z as one operation where there is one: the library is built without, this file's sums want it */
#if defined(__clang__)
#pragma clang fp contract(fast)
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast")
#endif

/* the vectors' way through a function call is never taken: all is inlined */
#pragma GCC diagnostic ignored "-Wpsabi"

V_INLINE v16 v_set(float x) { return (v16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
V_INLINE v16 v_load(const float *p) { return *(const v16u *)p; }
V_INLINE void v_store(float *p, v16 x) { *(v16u *)p = x; }

/* where mask (all bits or none) a, else b */
V_INLINE v16 v_select(i16 mask, v16 a, v16 b) { return (v16)(((i16)a & mask) | ((i16)b & ~mask)); }
V_INLINE v16 v_max(v16 a, v16 b) { return v_select(a > b, a, b); }
V_INLINE v16 v_abs(v16 x) { return (v16)((i16)x & 0x7fffffff); }

/* the lanes' sum, always in this order */
V_INLINE float v_sum(v16 x) {
    float lanes[16];
    v_store(lanes, x);
    for (int width = 8; width; width >>= 1)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

V_INLINE float v_largest(v16 x) {
    float lanes[16];
    v_store(lanes, x);
    for (int width = 8; width; width >>= 1)
        for (int i = 0; i < width; i++) lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
    return lanes[0];
}

/* e^x, off by about 1e-7 of itself; 0 below -87 (and of -inf), e^88 above 88. The polynomial is Cephes's (expf.c). */
V_INLINE v16 v_exp(v16 x) {
    const v16 magic = v_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
    i16 flushed = x < v_set(-87.0f);
    x = v_select(x > v_set(88.0f), v_set(88.0f), x);
    v16 whole = (x * v_set(1.44269504088896341f) + magic) - magic;
    v16 rest = x - whole * v_set(0.693359375f);
    rest = rest - whole * v_set(-2.12194440e-4f);
    v16 p = v_set(1.9875691500e-4f);
    p = p * rest + v_set(1.3981999507e-3f);
    p = p * rest + v_set(8.3334519073e-3f);
    p = p * rest + v_set(4.1665795894e-2f);
    p = p * rest + v_set(1.6666665459e-1f);
    p = p * rest + v_set(5.0000001201e-1f);
    p = p * rest * rest + rest + v_set(1.0f);
    i16 power = (__builtin_convertvector(whole, i16) + 127) << 23;
    return (v16)((i16)(p * (v16)power) & ~flushed);
}

#endif
