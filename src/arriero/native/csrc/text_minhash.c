/* Three ways to the same integers. (x + sign) + b and x + (b + sign) are the same, so the sign may go with the offset. */
#include <stdlib.h>
#include <string.h>

#include "text_minhash.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* sixteen hashes at a time, which stay in registers while the shingles pass */
__attribute__((target("avx512f,avx512dq"))) static void update_avx512(ar_minhash *m, const uint64_t *shingles, int count) {
    for (int32_t i = 0; i < m->padded; i += 16) {
        const __m512i a = _mm512_loadu_si512(m->factors + i), b = _mm512_loadu_si512(m->factors + i + 8);
        const __m512i c = _mm512_loadu_si512(m->offsets + i), d = _mm512_loadu_si512(m->offsets + i + 8);
        __m512i low = _mm512_loadu_si512(m->lowest + i), lower = _mm512_loadu_si512(m->lowest + i + 8);
        for (int j = 0; j < count; ++j) {
            const __m512i x = _mm512_set1_epi64((long long)shingles[j]);
            low = _mm512_min_epu64(low, _mm512_add_epi64(_mm512_mullo_epi64(a, x), c));
            lower = _mm512_min_epu64(lower, _mm512_add_epi64(_mm512_mullo_epi64(b, x), d));
        }
        _mm512_storeu_si512(m->lowest + i, low);
        _mm512_storeu_si512(m->lowest + i + 8, lower);
    }
}

/* the lower 64 bits of the products */
__attribute__((target("avx2"), always_inline)) static inline __m256i product(__m256i a, __m256i a_high, __m256i x, __m256i x_high) {
    const __m256i crossed = _mm256_add_epi64(_mm256_mul_epu32(a_high, x), _mm256_mul_epu32(a, x_high));
    return _mm256_add_epi64(_mm256_mul_epu32(a, x), _mm256_slli_epi64(crossed, 32));
}

__attribute__((target("avx2"))) static void update_avx2(ar_minhash *m, const uint64_t *shingles, int count) {
    const __m256i sign = _mm256_set1_epi64x(INT64_MIN); /* the comparison is one of signed numbers */
    for (int32_t i = 0; i < m->padded; i += 4) {
        const __m256i a = _mm256_loadu_si256((const __m256i *)(m->factors + i)), high = _mm256_srli_epi64(a, 32);
        const __m256i b = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(m->offsets + i)), sign);
        __m256i low = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(m->lowest + i)), sign);
        for (int j = 0; j < count; ++j) {
            const __m256i x = _mm256_set1_epi64x((long long)shingles[j]);
            const __m256i y = _mm256_add_epi64(product(a, high, x, _mm256_srli_epi64(x, 32)), b);
            low = _mm256_blendv_epi8(low, y, _mm256_cmpgt_epi64(low, y));
        }
        _mm256_storeu_si256((__m256i *)(m->lowest + i), _mm256_xor_si256(low, sign));
    }
}
#endif

static void update(ar_minhash *m, const uint64_t *shingles, int count) {
    for (int32_t i = 0; i < m->padded; ++i) {
        uint64_t low = m->lowest[i];
        for (int j = 0; j < count; ++j) {
            const uint64_t x = m->factors[i] * shingles[j] + m->offsets[i];
            low = x < low ? x : low;
        }
        m->lowest[i] = low;
    }
}

void ar_minhash_update(ar_minhash *minhash, const uint64_t *shingles, int count) {
#if defined(__x86_64__)
    if (ar_level() >= AR_AVX512) {
        update_avx512(minhash, shingles, count);
        return;
    }
    if (ar_level() >= AR_AVX2) {
        update_avx2(minhash, shingles, count);
        return;
    }
#endif
    update(minhash, shingles, count);
}

int ar_minhash_begin(ar_minhash *minhash, const ar_text_settings *settings) {
    const size_t n = (size_t)settings->n_hashes, padded = (n + 15) & ~(size_t)15;
    uint64_t *memory = calloc(3 * padded, sizeof *memory);
    if (!memory) return 0;
    memcpy(memory, settings->factors, n * sizeof *memory);
    memcpy(memory + padded, settings->offsets, n * sizeof *memory);
    memset(memory + 2 * padded, 0xff, padded * sizeof *memory);
    *minhash = (ar_minhash){memory, memory + padded, memory + 2 * padded, (int32_t)padded};
    return 1;
}

void ar_minhash_end(ar_minhash *minhash) { free(minhash->factors); }
