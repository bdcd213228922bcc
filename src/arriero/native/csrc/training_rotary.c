/* Rotary position embedding in bfloat16, worked out in float32 (models/layers/rotary.py): pair (i, i + width / 2) turns. */
#include "training_rotary.h"

enum { TOKENS = 16 }; /* that a thread takes at a time */

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

TARGET AR_INLINE __m512 load(const uint16_t *x, __mmask16 there) {
    const __m256i half = there == 0xffff ? _mm256_loadu_si256((const __m256i *)x) : _mm256_maskz_loadu_epi16(there, x);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

TARGET AR_INLINE void store(uint16_t *to, __mmask16 there, __m512 x) {
    const __m256i half = (__m256i)_mm512_cvtneps_pbh(x);
    if (there == 0xffff) _mm256_storeu_si256((__m256i *)to, half);
    else _mm256_mask_storeu_epi16(to, there, half);
}

/* one head of one token; the dimensions beyond the width stay as they are */
TARGET AR_INLINE void turn(const uint16_t *from, const float *cosines, const float *sines, __m512 direction, int width,
                           int head_dim, uint16_t *to) {
    const int half = width / 2;
    for (int at = 0; at < half; at += 16) {
        const __mmask16 there = half - at >= 16 ? 0xffff : (__mmask16)((1u << (half - at)) - 1);
        const __m512 low = load(from + at, there), high = load(from + half + at, there);
        const __m512 sin1 = _mm512_mul_ps(direction, _mm512_maskz_loadu_ps(there, sines + at));
        const __m512 sin2 = _mm512_mul_ps(direction, _mm512_maskz_loadu_ps(there, sines + half + at));
        const __m512 cos1 = _mm512_maskz_loadu_ps(there, cosines + at);
        const __m512 cos2 = _mm512_maskz_loadu_ps(there, cosines + half + at);
        store(to + at, there, _mm512_fmadd_ps(high, sin1, _mm512_mul_ps(low, cos1)));
        store(to + half + at, there, _mm512_fmadd_ps(low, sin2, _mm512_mul_ps(high, cos2)));
    }
    for (int at = width; at < head_dim; at += 16) {
        const __mmask16 there = head_dim - at >= 16 ? 0xffff : (__mmask16)((1u << (head_dim - at)) - 1);
        _mm256_mask_storeu_epi16(to + at, there, _mm256_maskz_loadu_epi16(there, from + at));
    }
}

TARGET static void turn_token(const ar_rotary *w, int row, int token) {
    const int64_t table = row * w->table_row + token * w->table_token;
    const __m512 direction = _mm512_set1_ps((float)w->direction);
    for (int head = 0; head < w->heads; ++head)
        turn(ar_headed_at(&w->x, row, head, token), w->cos + table, w->sin + table, direction, w->width, w->head_dim,
             ar_headed_at(&w->out, row, head, token));
}

static void take_tokens(void *arg) {
    ar_rotary *w = arg;
    const int64_t tokens = (int64_t)w->rows * w->tokens;
    for (;;) {
        const int64_t first = TOKENS * (int64_t)__atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
        if (first >= tokens) return;
        const int64_t last = first + TOKENS < tokens ? first + TOKENS : tokens;
        for (int64_t i = first; i < last; ++i) turn_token(w, (int)(i / w->tokens), (int)(i % w->tokens));
    }
}

void ar_rotate(ar_rotary *work) {
    const int64_t items = ((int64_t)work->rows * work->tokens + TOKENS - 1) / TOKENS;
    ar_training_parallel(take_tokens, work, items < work->threads ? (int)items : work->threads);
}
#else
void ar_rotate(ar_rotary *work) { (void)work; }
#endif
