/* Cross-entropy of a row of scores, and its gradient in the scores' place. */

T_INLINE __m512 largest_of(int kind, const void *scores, long vocab) {
    const __m512 least = _mm512_set1_ps(-INFINITY);
    __m512 a = least, b = least;
    long at = 0;
    for (; at + 32 <= vocab; at += 32) {
        a = _mm512_max_ps(a, load(kind, scores, at, ALL));
        b = _mm512_max_ps(b, load(kind, scores, at + 16, ALL));
    }
    for (; at < vocab; at += 16) {
        const __mmask16 there = first_lanes(vocab - at);
        a = _mm512_mask_max_ps(a, there, a, load(kind, scores, at, there));
    }
    return _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(a, b)));
}

/* e^(score - largest) into `row`, and the sum */
T_INLINE float exponentials(int kind, const void *scores, __m512 largest, float *row, long vocab) {
    __m512 a = _mm512_setzero_ps(), b = a;
    long at = 0;
    for (; at + 32 <= vocab; at += 32) {
        const __m512 first = exponential(_mm512_sub_ps(load(kind, scores, at, ALL), largest));
        const __m512 second = exponential(_mm512_sub_ps(load(kind, scores, at + 16, ALL), largest));
        _mm512_storeu_ps(row + at, first);
        _mm512_storeu_ps(row + at + 16, second);
        a = _mm512_add_ps(a, first);
        b = _mm512_add_ps(b, second);
    }
    for (; at < vocab; at += 16) {
        const __mmask16 there = first_lanes(vocab - at);
        const __m512 part = _mm512_maskz_mov_ps(there, exponential(_mm512_sub_ps(load(kind, scores, at, there), largest)));
        _mm512_mask_storeu_ps(row + at, there, part);
        a = _mm512_add_ps(a, part);
    }
    return lanes_sum(_mm512_add_ps(a, b));
}

T_INLINE float one_score(int kind, const void *scores, long at) { return _mm512_cvtss_f32(load(kind, scores, at, 1)); }

T_INLINE float loss_body(int kind, void *scores, long target, float *row, long vocab) {
    const __m512 largest = largest_of(kind, scores, vocab);
    const float chosen = one_score(kind, scores, target), sum = exponentials(kind, scores, largest, row, vocab);
    const __m512 share = _mm512_set1_ps(1.0f / sum);
#define SHARE(at, there) store(kind, scores, at, there, _mm512_mul_ps(load(AR_WIDE, row, at, there), share))
    VECTORS(0, vocab, SHARE);
    store(kind, scores, target, 1, _mm512_set1_ps(row[target] / sum - 1.0f));
    return logf(sum) + (_mm512_cvtss_f32(largest) - chosen);
}

TARGET static void loss(const ar_loss_work *work, long first, long last, float *row) {
    for (long i = first; i < last; ++i) {
        void *scores = (char *)work->scores + (size_t)i * work->vocab * (work->kind == AR_HALF ? 2 : 4);
        const float found = work->kind == AR_HALF ? loss_body(AR_HALF, scores, work->targets[i], row, work->vocab)
                                                  : loss_body(AR_WIDE, scores, work->targets[i], row, work->vocab);
        work->losses[i] = work->scored[i] ? found : 0.0f;
    }
}
