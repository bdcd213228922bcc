/* Backward pass of the training attention: the weights are worked out again from the scores and their sums (Dao et al.,
 * arXiv 2205.14135, algorithm 4). Gradients of keys and values are summed up in float32 over all queries. */
#if defined(__x86_64__)
#include "training_attention_tiles.h"

typedef struct {
    const ar_causal *work;
    int padded;
    uint32_t *keys_lined, *values_lined; /* [head_dim / 2][padded] */
    uint32_t *keys_paired;               /* [padded / 2][head_dim] */
    float *of_keys, *of_values;          /* [padded][head_dim] */
    /* of a tile of queries */
    uint32_t *queries_lined, *gradient_lined;   /* [head_dim / 2][32] */
    uint32_t *queries_paired, *gradient_paired; /* [16][head_dim] */
    uint32_t *weights, *errors;                 /* bf16 [padded][32]: as words [padded][16] */
    uint32_t *errors_paired;                    /* [padded / 2][32] */
    float *shifts, *offsets;                    /* [32]; offsets: sum of gradient times output */
} scratch;

enum { WORDS = AR_QUERIES / 2 };

static size_t lay_out(const ar_causal *work, scratch *s, char *memory) {
    const size_t padded = (size_t)rounded_up(work->tokens, AR_QUERIES), dim = (size_t)work->head_dim;
    const size_t whole = padded * dim / 2, tile = AR_QUERIES * dim / 2, strip = padded * WORDS;
    *s = (scratch){.work = work, .padded = (int)padded, .keys_lined = (uint32_t *)memory};
    s->values_lined = s->keys_lined + whole;
    s->keys_paired = s->values_lined + whole;
    s->of_keys = (float *)(s->keys_paired + whole);
    s->of_values = s->of_keys + padded * dim;
    s->queries_lined = (uint32_t *)(s->of_values + padded * dim);
    s->gradient_lined = s->queries_lined + tile;
    s->queries_paired = s->gradient_lined + tile;
    s->gradient_paired = s->queries_paired + tile;
    s->weights = s->gradient_paired + tile;
    s->errors = s->weights + strip;
    s->errors_paired = s->errors + strip;
    s->shifts = (float *)(s->errors_paired + strip);
    s->offsets = s->shifts + AR_QUERIES;
    return (size_t)((char *)(s->offsets + AR_QUERIES) - memory);
}

size_t ar_causal_backward_bytes(const ar_causal *work) {
    scratch s;
    return lay_out(work, &s, NULL);
}

/* the sum of a times b over a head: what a query's error is measured from */
TARGET AR_INLINE float dot(const uint16_t *a, const uint16_t *b, int dim) {
    __m512 sum = _mm512_setzero_ps();
    int at = 0;
    for (; at + 2 * LANES <= dim; at += 2 * LANES)
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(a + at), (__m512bh)_mm512_loadu_si512(b + at));
    if (at < dim)
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_maskz_loadu_epi16(0xffff, a + at),
                               (__m512bh)_mm512_maskz_loadu_epi16(0xffff, b + at));
    return _mm512_reduce_add_ps(sum);
}

/* Bring a tile of queries and their gradients into both forms. Queries beyond the last are 0, and add nothing. */
TARGET static void read_tile(const scratch *s, int row, int head, int start, int queries) {
    const ar_causal *w = s->work;
    const int dim = w->head_dim;
    const uint16_t *q = ar_headed_at(&w->q, row, head, start), *g = ar_headed_at(&w->gradient, row, head, start);
    const uint16_t *out = ar_headed_at(&w->out, row, head, start);
    line_up(q, w->q.token, queries, dim, s->queries_lined, AR_QUERIES);
    line_up(g, w->gradient.token, queries, dim, s->gradient_lined, AR_QUERIES);
    pair_up(q, w->q.token, queries, AR_QUERIES, dim, s->queries_paired);
    pair_up(g, w->gradient.token, queries, AR_QUERIES, dim, s->gradient_paired);
    for (int i = 0; i < AR_QUERIES; ++i) {
        s->shifts[i] = i < queries ? *ar_shifts_at(w, row, head, start + i) : 0.0f;
        s->offsets[i] = i < queries ? dot(g + i * w->gradient.token, out + i * w->out.token, dim) : 0.0f;
    }
}

/* weights of 8 keys in float32, 0 where they are not seen; written as bf16 too */
TARGET AR_INLINE void weigh(const scratch *s, int key, int start, const __m512i *first, __m512 by, float weights[]) {
    __m512 sums[AR_KEYS * 2];
    clear(sums, AR_KEYS * 2);
    multiply(s->keys_lined + key, 1, (size_t)s->padded, s->queries_lined, AR_QUERIES, s->work->head_dim / 2, sums, AR_KEYS, 2);
    UNROLL for (int i = 0; i < AR_KEYS * 2; ++i) {
        const __m512 shift = _mm512_loadu_ps(s->shifts + i % 2 * LANES);
        sums[i] = power_of_2(_mm512_mul_ps(by, _mm512_sub_ps(sums[i], shift)));
    }
    if (first || key + AR_KEYS > start)
        UNROLL for (int i = 0; i < AR_KEYS * 2; ++i) {
            __mmask16 seen = (__mmask16)(sees(key + i / 2, start) >> (i % 2 * LANES));
            if (first) seen &= _mm512_cmple_epi32_mask(first[i % 2], _mm512_set1_epi32(key + i / 2));
            sums[i] = _mm512_maskz_mov_ps(seen, sums[i]);
        }
    UNROLL for (int r = 0; r < AR_KEYS; ++r) {
        _mm512_storeu_ps(weights + r * AR_QUERIES, sums[2 * r]);
        _mm512_storeu_ps(weights + r * AR_QUERIES + LANES, sums[2 * r + 1]);
        _mm512_storeu_si512(s->weights + (key + r) * WORDS, (__m512i)_mm512_cvtne2ps_pbh(sums[2 * r + 1], sums[2 * r]));
    }
}

/* gradients of 8 keys' scores, but for the scale: weight (gradient of the weight - offset) */
TARGET AR_INLINE void err(const scratch *s, int key, const float weights[]) {
    __m512 sums[AR_KEYS * 2];
    clear(sums, AR_KEYS * 2);
    multiply(s->values_lined + key, 1, (size_t)s->padded, s->gradient_lined, AR_QUERIES, s->work->head_dim / 2, sums, AR_KEYS,
             2);
    UNROLL for (int i = 0; i < AR_KEYS * 2; ++i)
        sums[i] = _mm512_mul_ps(_mm512_loadu_ps(weights + i * LANES),
                                _mm512_sub_ps(sums[i], _mm512_loadu_ps(s->offsets + i % 2 * LANES)));
    UNROLL for (int r = 0; r < AR_KEYS; ++r)
        _mm512_storeu_si512(s->errors + (key + r) * WORDS, (__m512i)_mm512_cvtne2ps_pbh(sums[2 * r + 1], sums[2 * r]));
    UNROLL for (int r = 0; r < AR_KEYS; r += 2)
        UNROLL for (int c = 0; c < 2; ++c)
            _mm512_storeu_si512(s->errors_paired + (key + r) / 2 * AR_QUERIES + c * LANES,
                                paired_words(sums[2 * r + c], sums[2 * r + 2 + c]));
}

/* add to `columns` vectors of 8 keys' gradients what a tile of queries gives */
TARGET AR_INLINE void add(const uint32_t *strip, const uint32_t *paired, float *to, int dim, int columns) {
    __m512 sums[AR_KEYS * 2];
    UNROLL for (int i = 0; i < AR_KEYS * columns; ++i)
        sums[i] = _mm512_loadu_ps(to + (size_t)(i / columns) * dim + i % columns * LANES);
    multiply(strip, WORDS, 1, paired, (size_t)dim, WORDS, sums, AR_KEYS, columns);
    UNROLL for (int i = 0; i < AR_KEYS * columns; ++i)
        _mm512_storeu_ps(to + (size_t)(i / columns) * dim + i % columns * LANES, sums[i]);
}

TARGET static void add_strip(const uint32_t *strip, const uint32_t *paired, float *to, int begin, int keys, int dim) {
    for (int key = begin; key < keys; key += AR_KEYS) {
        int at = 0;
        for (; at + 2 * LANES <= dim; at += 2 * LANES)
            add(strip + key * WORDS, paired + at, to + (size_t)key * dim + at, dim, 2);
        if (at < dim) add(strip + key * WORDS, paired + at, to + (size_t)key * dim + at, dim, 1);
    }
}

/* gradients of 8 queries: `columns` vectors, from dim on */
TARGET AR_INLINE void of_queries(const scratch *s, int query, int begin, int keys, int at, uint16_t *to, int there,
                                 int columns) {
    const ar_causal *w = s->work;
    const size_t dim = (size_t)w->head_dim;
    __m512 sums[8 * 2];
    clear(sums, 8 * columns);
    multiply(s->errors_paired + begin / 2 * AR_QUERIES + query, 1, AR_QUERIES, s->keys_paired + begin / 2 * dim + at, dim,
             (keys - begin) / 2, sums, 8, columns);
    UNROLL for (int i = 0; i < 8 * columns; ++i)
        if (i / columns < there)
            store_bf16(to + i / columns * w->of_q.token + at + i % columns * LANES,
                       _mm512_mul_ps(sums[i], _mm512_set1_ps(w->scale)));
}

TARGET static void one_tile(const scratch *s, int row, int head, int start) {
    const ar_causal *w = s->work;
    const int queries = smaller(AR_QUERIES, w->tokens - start), dim = w->head_dim;
    const int keys = smaller(start + AR_QUERIES, rounded_up(w->tokens, AR_KEYS));
    const __m512 by = _mm512_set1_ps(w->scale * LOG2_E);
    float weights[AR_KEYS * AR_QUERIES];
    __m512i first[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    read_tile(s, row, head, start, queries);
    const int begin = w->first ? first_keys(w, row, start, queries, first) : 0;
    for (int key = begin; key < keys; key += AR_KEYS) {
        if (w->first) weigh(s, key, start, first, by, weights);
        else weigh(s, key, start, NULL, by, weights);
        err(s, key, weights);
    }
    add_strip(s->weights, s->gradient_paired, s->of_values, begin, keys, dim);
    add_strip(s->errors, s->queries_paired, s->of_keys, begin, keys, dim);
    for (int query = 0; query < queries; query += 8) {
        uint16_t *to = ar_headed_at(&w->of_q, row, head, start + query);
        int at = 0;
        for (; at + 2 * LANES <= dim; at += 2 * LANES) of_queries(s, query, begin, keys, at, to, queries - query, 2);
        if (at < dim) of_queries(s, query, begin, keys, at, to, queries - query, 1);
    }
}

TARGET static void write(const float *from, float scale, int tokens, int dim, uint16_t *to, int64_t stride) {
    for (int token = 0; token < tokens; ++token)
        for (int at = 0; at < dim; at += LANES)
            store_bf16(to + token * stride + at,
                       _mm512_mul_ps(_mm512_loadu_ps(from + (size_t)token * dim + at), _mm512_set1_ps(scale)));
}

TARGET void ar_causal_backward_item(const ar_causal *work, int row, int kv_head, char *memory) {
    const int group = work->heads / work->kv_heads, tokens = work->tokens, dim = work->head_dim;
    const uint16_t *k = ar_headed_at(&work->k, row, kv_head, 0), *v = ar_headed_at(&work->v, row, kv_head, 0);
    scratch s;
    lay_out(work, &s, memory);
    line_up(k, work->k.token, tokens, dim, s.keys_lined, s.padded);
    line_up(v, work->v.token, tokens, dim, s.values_lined, s.padded);
    pair_up(k, work->k.token, tokens, s.padded, dim, s.keys_paired);
    memset(s.of_keys, 0, sizeof(float) * 2 * (size_t)s.padded * dim); /* of_values follow */
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head)
        for (int start = 0; start < tokens; start += AR_QUERIES) one_tile(&s, row, head, start);
    write(s.of_keys, work->scale, tokens, dim, ar_headed_at(&work->of_k, row, kv_head, 0), work->of_k.token);
    write(s.of_values, 1.0f, tokens, dim, ar_headed_at(&work->of_v, row, kv_head, 0), work->of_v.token);
}
#endif
