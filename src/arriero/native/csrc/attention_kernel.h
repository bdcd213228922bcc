/* One chunk of keys for one tile of queries. Compiled once for each level: MOST_ROWS rows of VECTORS vectors are summed
 * in registers; SHUFFLES: squares of 16 x 16 are transposed by shuffles. */
#include "vector_kernels.h"
#include "vector.h"

/* 16 numbers from place `i` of one vector of the pool; those behind `left` are 0 */
V_INLINE v16 pool_load(const void *base, int kind, size_t i, int left, float scale) {
    typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));
    typedef int8_t b16 __attribute__((vector_size(16), aligned(1), may_alias));
    if (kind == AR_ELEMENT_FP32) {
        const float *p = (const float *)base + i;
        if (left >= 16) return v_load(p);
        float rest[16] = {0};
        memcpy(rest, p, (size_t)left * sizeof(float));
        return v_load(rest);
    }
    if (kind == AR_ELEMENT_BF16) {
        const uint16_t *p = (const uint16_t *)base + i;
        uint16_t rest[16] = {0};
        if (left < 16) memcpy(rest, p, (size_t)left * sizeof(uint16_t));
        h16 half = *(const h16 *)(left < 16 ? rest : p);
        return (v16)(__builtin_convertvector(half, i16) << 16);
    }
    const int8_t *p = (const int8_t *)base + i;
    int8_t rest[16] = {0};
    if (left < 16) memcpy(rest, p, (size_t)left);
    b16 codes = *(const b16 *)(left < 16 ? rest : p);
    return __builtin_convertvector(__builtin_convertvector(codes, i16), v16) * v_set(scale);
}

/* rows of a 16 x 16 square become its columns: four perfect shuffles */
V_INLINE void transpose16(v16 *r) {
    const i16 low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
    const i16 high = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    v16 s[16];
#pragma GCC unroll 2
    for (int turn = 0; turn < 2; turn++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            s[2 * i] = __builtin_shuffle(r[i], r[i + 8], low);
            s[2 * i + 1] = __builtin_shuffle(r[i], r[i + 8], high);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            r[2 * i] = __builtin_shuffle(s[i], s[i + 8], low);
            r[2 * i + 1] = __builtin_shuffle(s[i], s[i + 8], high);
        }
    }
}

/* at least the first `count` keys of a block, transposed into t->keys [width, 64]. What stands for the others is masked. */
V_INLINE void fetch_keys(tile *t, int block, int count, int shuffles, int kind, int whole) {
    const ar_pool *pool = t->a->pool;
    size_t place = place_of(pool, t->a->step, t->span, t->layer, t->kv_head, block * BLOCK);
    const float *scales = kind == AR_ELEMENT_INT8 ? pool->key_scales + place : 0;
    for (int k = 0; k < count; k += 16) {
        for (int d = 0; d < t->width; d += 16) {
            size_t from = (place + k) * t->head_dim + d;
            int left = whole ? 16 : t->head_dim - d;
            float *to = t->keys + (size_t)d * BLOCK + k;
            v16 r[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                r[i] = pool_load(pool->keys, kind, from + (size_t)i * t->head_dim, left, scales ? scales[k + i] : 0);
            if (shuffles) {
                transpose16(r);
#pragma GCC unroll 16
                for (int i = 0; i < 16; i++) v_store(to + (size_t)i * BLOCK, r[i]);
            } else {
                for (int i = 0; i < 16; i++)
                    for (int j = 0; j < 16; j++) to[(size_t)j * BLOCK + i] = r[i][j];
            }
        }
    }
}

/* the first `count` values of a block as float [64, width]: in the pool itself where it has them so */
V_INLINE const float *fetch_values(tile *t, int block, int count, int kind) {
    const ar_pool *pool = t->a->pool;
    size_t place = place_of(pool, t->a->step, t->span, t->layer, t->kv_head, block * BLOCK);
    if (kind == AR_ELEMENT_FP32 && t->width == t->head_dim)
        return (const float *)pool->values + place * t->head_dim;
    const float *scales = kind == AR_ELEMENT_INT8 ? pool->value_scales + place : 0;
    for (int k = 0; k < count; k++)
        for (int d = 0; d < t->width; d += 16)
            v_store(t->values + (size_t)k * t->width + d,
                    pool_load(pool->values, kind, (place + k) * t->head_dim + d, t->head_dim - d,
                              scales ? scales[k] : 0));
    return t->values;
}

/* ---- the product that both halves are: c[rows, columns] (+)= a[rows, k] b[k, columns], in the order of k ---- */

V_INLINE void panel(int rows, int vectors, int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc, int add) {
    v16 sum[6][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = add ? v_load(c + r * ldc + v * 16) : v_set(0);
    for (int i = 0; i < k; i++) {
        v16 line[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) line[v] = v_load(b + (size_t)i * ldb + v * 16);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            v16 x = v_set(a[r * lda + i]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[r][v] += x * line[v];
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) v_store(c + r * ldc + v * 16, sum[r][v]);
}

V_INLINE void columns_of(
    int rows, int vectors, int columns, int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc, int add) {
    int j = 0;
    for (; j + 16 * vectors <= columns; j += 16 * vectors) panel(rows, vectors, k, a, lda, b + j, ldb, c + j, ldc, add);
    for (; j < columns; j += 16) panel(rows, 1, k, a, lda, b + j, ldb, c + j, ldc, add);
}

V_INLINE void product(
    int most, int vectors, int rows, int columns, int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc, int add) {
    for (; rows >= most; rows -= most, a += most * lda, c += most * ldc)
        columns_of(most, vectors, columns, k, a, lda, b, ldb, c, ldc, add);
    switch (rows) {
        case 5: columns_of(5, vectors, columns, k, a, lda, b, ldb, c, ldc, add); break;
        case 4: columns_of(4, vectors, columns, k, a, lda, b, ldb, c, ldc, add); break;
        case 3: columns_of(3, vectors, columns, k, a, lda, b, ldb, c, ldc, add); break;
        case 2: columns_of(2, vectors, columns, k, a, lda, b, ldb, c, ldc, add); break;
        case 1: columns_of(1, vectors, columns, k, a, lda, b, ldb, c, ldc, add); break;
    }
}

/* ---- softmax ---- */

/* one (row, head): its 64 scores become weights; sums and weights so far are brought to the new largest score */
V_INLINE void weigh(tile *t, int pair, int first_key) {
    int row = t->first_row + pair / t->group;
    float *s = t->scores + pair * BLOCK;
    const float *slopes = t->a->heads->slopes;
    int begin = key_begin(t, row) - first_key, end = key_end(t, row) - first_key;
    if (slopes) {
        float slope = slopes[t->kv_head * t->group + pair % t->group];
        for (int j = 0; j < BLOCK; j++) s[j] -= slope * (float)(end - 1 - j);
    }
    for (int j = 0; j < imin(begin, BLOCK); j++) s[j] = -INFINITY;
    for (int j = imax(end, 0); j < BLOCK; j++) s[j] = -INFINITY;
    v16 x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) x[v] = v_load(s + 16 * v);
    float largest = v_largest(v_max(v_max(x[0], x[1]), v_max(x[2], x[3])));
    float before = t->largest[pair];
    float now = largest > before ? largest : before;
    v16 base = v_set(now == -INFINITY ? 0 : now), sum = v_load(t->weights + pair * 16);
    if (now > before) { /* of a first block too: exp(-inf) = 0 times zeros */
        v16 factor = v_exp(v_set(before) - base);
        sum *= factor;
        float *o = t->sums + (size_t)pair * t->width;
        for (int d = 0; d < t->width; d += 16) v_store(o + d, v_load(o + d) * factor);
        t->largest[pair] = now;
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        x[v] = v_exp(x[v] - base);
        v_store(s + 16 * v, x[v]);
    }
    v_store(t->weights + pair * 16, sum + ((x[0] + x[1]) + (x[2] + x[3])));
}

/* puts a chunk (sums o, weight w, largest score m) to what is there: total = sums, weight, largest */
V_INLINE void join_body(float *total, const float *o, float w, float m, int width) {
    if (m == -INFINITY) return; /* a chunk out of this row's sight */
    float before = total[width + 1], now = m > before ? m : before;
    v16 old = v_exp(v_set(before - now)), new = v_exp(v_set(m - now));
    for (int d = 0; d < width; d += 16) v_store(total + d, v_load(total + d) * old + v_load(o + d) * new);
    total[width] = total[width] * old[0] + w * new[0];
    total[width + 1] = now;
}

V_INLINE void chunk_body(tile *t, int chunk, int kind) {
    int pairs = t->n_rows * t->group, last = t->first_row + t->n_rows - 1;
    for (int p = 0; p < pairs; p++) t->largest[p] = -INFINITY;
    memset(t->weights, 0, sizeof(float) * 16 * pairs);
    memset(t->sums, 0, sizeof(float) * t->width * pairs);
    int from = imax(chunk * CHUNK_BLOCKS, key_begin(t, t->first_row) / BLOCK);
    int to = imin((chunk + 1) * CHUNK_BLOCKS, up(key_end(t, last), BLOCK));
    for (int block = from; block < to; block++) {
        int count = imin(BLOCK, key_end(t, last) - block * BLOCK);
        if (t->width == t->head_dim)
            fetch_keys(t, block, count, SHUFFLES, kind, 1);
        else
            fetch_keys(t, block, count, SHUFFLES, kind, 0);
        product(MOST_ROWS, VECTORS, pairs, BLOCK, t->head_dim, t->q, t->width, t->keys, BLOCK, t->scores, BLOCK, 0);
        for (int p = 0; p < pairs; p++) weigh(t, p, block * BLOCK);
        const float *values = fetch_values(t, block, count, kind);
        product(MOST_ROWS, VECTORS, pairs, t->width, count, t->scores, BLOCK, values, t->width, t->sums, t->width, 1);
    }
}

TARGET static void chunk_fp32(tile *t, int chunk) { chunk_body(t, chunk, AR_ELEMENT_FP32); }
TARGET static void chunk_bf16(tile *t, int chunk) { chunk_body(t, chunk, AR_ELEMENT_BF16); }
TARGET static void chunk_int8(tile *t, int chunk) { chunk_body(t, chunk, AR_ELEMENT_INT8); }
TARGET static void join(float *total, const float *o, float w, float m, int width) { join_body(total, o, w, m, width); }
TARGET static float sum_of(const float *lanes) { return v_sum(v_load(lanes)); }

#define VECTOR_KERNELS {add, norm, activation, {chunk_fp32, chunk_bf16, chunk_int8}, join, sum_of}
