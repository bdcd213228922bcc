/* Forward pass of the training attention. */
#if defined(__x86_64__)
#include "training_attention_tiles.h"

#include <math.h>

typedef struct {
    const ar_causal *work;
    int padded;        /* tokens, to a whole number of tiles */
    uint32_t *keys;    /* lined [head_dim / 2][padded] */
    uint32_t *values;  /* paired [padded / 2][head_dim] */
    uint32_t *queries; /* lined [head_dim / 2][32], of a tile */
    float *scores;     /* [padded][32] */
    uint32_t *weights; /* paired [padded / 2][32] */
} scratch;

static size_t lay_out(const ar_causal *work, scratch *s, char *memory) {
    const size_t padded = (size_t)rounded_up(work->tokens, AR_QUERIES), dim = (size_t)work->head_dim;
    *s = (scratch){.work = work, .padded = (int)padded, .keys = (uint32_t *)memory};
    s->values = s->keys + padded * dim / 2;
    s->queries = s->values + padded * dim / 2;
    s->scores = (float *)(s->queries + AR_QUERIES * dim / 2);
    s->weights = (uint32_t *)(s->scores + padded * AR_QUERIES);
    return (size_t)((char *)(s->weights + padded * AR_QUERIES / 2) - memory);
}

size_t ar_causal_forward_bytes(const ar_causal *work) {
    scratch s;
    return lay_out(work, &s, NULL);
}

/* scores of the keys from `begin` up to `keys` with a tile's queries, -inf where they are not seen; gives each query's largest */
TARGET AR_INLINE void score(const scratch *s, int start, int begin, int keys, const __m512i *first, __m512 largest[2]) {
    const __m512 hidden = _mm512_set1_ps(-INFINITY);
    for (int key = begin; key < keys; key += AR_KEYS) {
        __m512 sums[AR_KEYS * 2];
        clear(sums, AR_KEYS * 2);
        multiply(s->keys + key, 1, s->padded, s->queries, AR_QUERIES, s->work->head_dim / 2, sums, AR_KEYS, 2);
        if (first || key + AR_KEYS > start)
            UNROLL for (int r = 0; r < AR_KEYS; ++r)
                UNROLL for (int c = 0; c < 2; ++c) {
                    __mmask16 seen = (__mmask16)(sees(key + r, start) >> (c * LANES));
                    if (first) seen &= _mm512_cmple_epi32_mask(first[c], _mm512_set1_epi32(key + r));
                    sums[r * 2 + c] = _mm512_mask_blend_ps(seen, hidden, sums[r * 2 + c]);
                }
        UNROLL for (int r = 0; r < AR_KEYS; ++r)
            UNROLL for (int c = 0; c < 2; ++c) {
                largest[c] = _mm512_max_ps(largest[c], sums[r * 2 + c]);
                _mm512_storeu_ps(s->scores + (key + r) * AR_QUERIES + c * LANES, sums[r * 2 + c]);
            }
    }
}

/* 2^(by (score - largest)), as the words that the product with the values reads; gives their sums. The largest score has
 * exactly 1, however large it is. */
TARGET AR_INLINE void weigh(const scratch *s, int begin, int keys, __m512 by, const __m512 largest[2], __m512 total[2]) {
    for (int key = begin; key < keys; key += 2)
        UNROLL for (int c = 0; c < 2; ++c) {
            const float *at = s->scores + key * AR_QUERIES + c * LANES;
            const __m512 even = power_of_2(_mm512_mul_ps(by, _mm512_sub_ps(_mm512_loadu_ps(at), largest[c])));
            const __m512 odd = power_of_2(_mm512_mul_ps(by, _mm512_sub_ps(_mm512_loadu_ps(at + AR_QUERIES), largest[c])));
            total[c] = _mm512_add_ps(total[c], _mm512_add_ps(even, odd));
            _mm512_storeu_si512(s->weights + key / 2 * AR_QUERIES + c * LANES, paired_words(even, odd));
        }
}

/* of 8 queries: `columns` vectors of the output, from dim on */
TARGET AR_INLINE void mix(const scratch *s, int query, int begin, int keys, int dim, const float *inverse, uint16_t *out,
                          int64_t stride, int there, int columns) {
    const size_t head_dim = (size_t)s->work->head_dim;
    __m512 sums[8 * 2];
    clear(sums, 8 * columns);
    multiply(s->weights + begin / 2 * AR_QUERIES + query, 1, AR_QUERIES, s->values + begin / 2 * head_dim + dim, head_dim,
             (keys - begin) / 2, sums, 8, columns);
    UNROLL for (int r = 0; r < 8; ++r)
        if (r < there)
            UNROLL for (int c = 0; c < columns; ++c)
                store_bf16(out + r * stride + dim + c * LANES,
                           _mm512_mul_ps(sums[r * columns + c], _mm512_set1_ps(inverse[query + r])));
}

/* 1 / total, which the output is multiplied by, and the shifts that the backward pass wants */
TARGET static void finish_sums(const ar_causal *w, const __m512 largest[2], const __m512 total[2], int queries,
                               float inverse[AR_QUERIES], float *shifts) {
    float sums[AR_QUERIES], most[AR_QUERIES];
    for (int c = 0; c < 2; ++c) {
        _mm512_storeu_ps(inverse + c * LANES, _mm512_div_ps(_mm512_set1_ps(1.0f), total[c]));
        _mm512_storeu_ps(sums + c * LANES, total[c]);
        _mm512_storeu_ps(most + c * LANES, largest[c]);
    }
    for (int i = 0; i < queries; ++i) shifts[i] = most[i] + logf(sums[i]) / w->scale;
}

TARGET static void one_tile(const scratch *s, int row, int head, int start) {
    const ar_causal *w = s->work;
    const int queries = smaller(AR_QUERIES, w->tokens - start), dim = w->head_dim;
    const int keys = smaller(start + AR_QUERIES, rounded_up(w->tokens, AR_KEYS));
    __m512 largest[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)};
    __m512 total[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    float inverse[AR_QUERIES];
    line_up(ar_headed_at(&w->q, row, head, start), w->q.token, queries, dim, s->queries, AR_QUERIES);
    int begin = 0;
    if (w->first) {
        __m512i first[2];
        begin = first_keys(w, row, start, queries, first);
        score(s, start, begin, keys, first, largest);
    } else {
        score(s, start, begin, keys, NULL, largest);
    }
    weigh(s, begin, keys, _mm512_set1_ps(w->scale * LOG2_E), largest, total);
    finish_sums(w, largest, total, queries, inverse, ar_shifts_at(w, row, head, start));
    for (int query = 0; query < queries; query += 8) {
        uint16_t *out = ar_headed_at(&w->out, row, head, start + query);
        int at = 0;
        for (; at + 2 * LANES <= dim; at += 2 * LANES)
            mix(s, query, begin, keys, at, inverse, out, w->out.token, queries - query, 2);
        if (at < dim) mix(s, query, begin, keys, at, inverse, out, w->out.token, queries - query, 1);
    }
}

TARGET void ar_causal_forward_item(const ar_causal *work, int row, int kv_head, char *memory) {
    const int group = work->heads / work->kv_heads;
    scratch s;
    lay_out(work, &s, memory);
    line_up(ar_headed_at(&work->k, row, kv_head, 0), work->k.token, work->tokens, work->head_dim, s.keys, s.padded);
    pair_up(ar_headed_at(&work->v, row, kv_head, 0), work->v.token, work->tokens, s.padded, work->head_dim, s.values);
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head)
        for (int start = 0; start < work->tokens; start += AR_QUERIES) one_tile(&s, row, head, start);
}
#endif
