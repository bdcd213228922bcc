/* Attention over a paged pool of keys and values.
 *
 * A work item is a tile of query rows of one sequence with the heads of one key-value head; or, where a long context
 * meets few rows, one chunk of its keys. Softmax runs online over blocks of 64 keys (Milakov & Gimelshein, arXiv
 * 1805.02867) within chunks of 4 blocks, which are then put together in their order (Dao et al., arXiv 2205.14135, and
 * Flash-Decoding). Every (row, head) goes through the same sums in the same order whatever else is in its tile, so its
 * bits depend on nothing but its own keys. Scores, sums and results are float32. */
#include "vector_kernels.h"

#include <math.h>
#include <string.h>

/* ---- an item ---- */

static void finish(const float *total, int width, int head_dim, float *out) {
    float inverse = 1.0f / total[width];
    for (int d = 0; d < head_dim; d++) out[d] = total[d] * inverse;
}

static void clear(float *total, int width) {
    for (int d = 0; d <= width; d++) total[d] = 0;
    total[width + 1] = -INFINITY;
}

/* floats of the partial results of one (row, head, chunk) */
static int slot(int head_dim) { return padded(head_dim) + 16; }

static float *partial_of(const ar_attention *a, int span, int row, int head, int chunk) {
    const ar_share *share = a->shares + span;
    size_t index = ((size_t)row * a->heads->n_heads + head) * share->split + chunk;
    return a->partial + share->partial + index * slot(a->pool->head_dim);
}

static void read_queries(tile *t, const float *qkv, int ld) {
    for (int p = 0; p < t->n_rows * t->group; p++) {
        int row = t->span->first + t->first_row + p / t->group, head = t->kv_head * t->group + p % t->group;
        const float *from = qkv + (size_t)row * ld + (size_t)head * t->head_dim;
        float *to = t->q + (size_t)p * t->width;
        for (int d = 0; d < t->head_dim; d++) to[d] = from[d] * t->a->heads->scale;
    }
}

static void one_chunk(tile *t, int span, int chunk) {
    ar_vector_kernels_now()->chunk[t->a->pool->kind](t, chunk);
    for (int p = 0; p < t->n_rows * t->group; p++) {
        int row = t->first_row + p / t->group, head = t->kv_head * t->group + p % t->group;
        float *to = partial_of(t->a, span, row, head, chunk);
        memcpy(to, t->sums + (size_t)p * t->width, sizeof(float) * t->width);
        to[t->width] = ar_vector_kernels_now()->sum(t->weights + p * 16);
        to[t->width + 1] = t->largest[p];
    }
}

static void all_chunks(tile *t, float *out) {
    int pairs = t->n_rows * t->group, size = t->width + 2;
    for (int p = 0; p < pairs; p++) clear(t->total + (size_t)p * size, t->width);
    int from = key_begin(t, t->first_row) / CHUNK, to = up(key_end(t, t->first_row + t->n_rows - 1), CHUNK);
    for (int chunk = from; chunk < to; chunk++) {
        ar_vector_kernels_now()->chunk[t->a->pool->kind](t, chunk);
        for (int p = 0; p < pairs; p++)
            ar_vector_kernels_now()->join(t->total + (size_t)p * size, t->sums + (size_t)p * t->width, ar_vector_kernels_now()->sum(t->weights + p * 16),
                 t->largest[p], t->width);
    }
    int n_heads = t->a->heads->n_heads;
    for (int p = 0; p < pairs; p++) {
        size_t row = (size_t)(t->span->first + t->first_row + p / t->group);
        int head = t->kv_head * t->group + p % t->group;
        finish(t->total + (size_t)p * size, t->width, t->head_dim, out + (row * n_heads + head) * t->head_dim);
    }
}

static int pairs_of(const ar_heads *heads, const ar_pool *pool) {
    int group = heads->n_heads / pool->n_kv_heads;
    return imax(1, TILE / group) * group;
}

/* the floats behind `scratch`, laid out for a tile */
static void lay_out(tile *t, float *scratch) {
    size_t pairs = (size_t)pairs_of(t->a->heads, t->a->pool);
    t->keys = scratch;
    t->values = t->keys + (size_t)t->width * BLOCK;
    t->q = t->values + (size_t)t->width * BLOCK;
    t->sums = t->q + pairs * t->width;
    t->scores = t->sums + pairs * t->width;
    t->weights = t->scores + pairs * BLOCK;
    t->total = t->weights + pairs * 16;
    t->largest = t->total + pairs * (t->width + 2);
}

size_t ar_attention_scratch(const ar_heads *heads, const ar_pool *pool) {
    size_t width = (size_t)padded(pool->head_dim), pairs = (size_t)pairs_of(heads, pool);
    return sizeof(float) * (2 * width * BLOCK + pairs * (3 * width + BLOCK + 16 + 2 + 1)) + 128;
}

void ar_attention_item(const ar_attention *a, int layer, int item, const float *qkv, int ld, float *out, void *scratch) {
    int span = 0, beyond = a->step->n_spans;
    while (beyond - span > 1) { /* the span that holds the item */
        int middle = (span + beyond) / 2;
        if (a->shares[middle].items <= item) span = middle; else beyond = middle;
    }
    const ar_share *share = a->shares + span;
    tile t = {.a = a, .layer = layer, .span = a->step->spans + span};
    t.group = a->heads->n_heads / a->pool->n_kv_heads;
    t.head_dim = a->pool->head_dim;
    t.width = padded(t.head_dim);
    lay_out(&t, (float *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63));
    int within = item - share->items, kv_heads = a->pool->n_kv_heads;
    t.kv_head = within % kv_heads;
    int rows = imax(1, TILE / t.group), part = within / kv_heads;
    /* the last rows see the most keys: they go first, so that no thread is left with them at the end */
    t.first_row = share->split ? 0 : (up(t.span->count, rows) - 1 - part) * rows;
    t.n_rows = imin(rows, t.span->count - t.first_row);
    read_queries(&t, qkv, ld);
    if (share->split)
        one_chunk(&t, span, part);
    else
        all_chunks(&t, out);
}

/* ---- before and after ---- */

/* One span's items and partial results behind those of the spans before it. */
static ar_share share_of(const ar_heads *heads, const ar_pool *pool, const ar_span *span, ar_share *next) {
    int rows = imax(1, TILE / (heads->n_heads / pool->n_kv_heads)), chunks = up(span->stored + span->count, CHUNK);
    int split = span->count <= rows && chunks > 1;
    ar_share share = {.items = next->items, .split = split ? chunks : 0, .partial = next->partial};
    next->items += pool->n_kv_heads * (split ? chunks : up(span->count, rows));
    if (split) next->partial += (size_t)span->count * heads->n_heads * chunks * slot(pool->head_dim);
    return share;
}

void ar_attention_plan(const ar_heads *heads, const ar_pool *pool, const ar_step *step, ar_share *shares) {
    ar_share next = {0};
    for (int s = 0; s < step->n_spans; s++) shares[s] = share_of(heads, pool, step->spans + s, &next);
    shares[step->n_spans] = next;
}

size_t ar_attention_partial(const ar_heads *heads, const ar_pool *pool, const ar_step *step) {
    ar_share next = {0};
    for (int s = 0; s < step->n_spans; s++) share_of(heads, pool, step->spans + s, &next);
    return next.partial;
}

void ar_attention_merge(const ar_attention *a, int row, float *out) {
    int span = 0;
    while (row >= a->step->spans[span].first + a->step->spans[span].count) span++;
    int chunks = a->shares[span].split, head_dim = a->pool->head_dim, width = padded(head_dim);
    if (!chunks) return;
    float total[width + 2];
    for (int head = 0; head < a->heads->n_heads; head++) {
        clear(total, width);
        for (int chunk = 0; chunk < chunks; chunk++) {
            const float *from = partial_of(a, span, row - a->step->spans[span].first, head, chunk);
            ar_vector_kernels_now()->join(total, from, from[width], from[width + 1], width);
        }
        finish(total, width, head_dim, out + (size_t)head * head_dim);
    }
}

static void turn(const ar_heads *heads, int position, float *x) {
    int width = heads->rotary_width, half = width / 2;
    const float *cosines = heads->cos + (size_t)position * width, *sines = heads->sin + (size_t)position * width;
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosines[i] + b * sines[i];
        x[i + half] = b * cosines[i + half] + a * sines[i + half];
    }
}

static uint16_t bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void keep(const ar_pool *pool, void *to, float *scales, size_t place, const float *x) {
    int n = pool->head_dim;
    if (pool->kind == AR_ELEMENT_FP32) {
        memcpy((float *)to + place * n, x, sizeof(float) * n);
    } else if (pool->kind == AR_ELEMENT_BF16) {
        for (int i = 0; i < n; i++) ((uint16_t *)to)[place * n + i] = bf16_of(x[i]);
    } else {
        float most = 0;
        for (int i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        float scale = most / 127.0f, divisor = scale > 1.17549435e-38f ? scale : 1.17549435e-38f;
        for (int i = 0; i < n; i++) {
            float code = rintf(x[i] / divisor);
            ((int8_t *)to)[place * n + i] = (int8_t)(code > 127 ? 127 : code < -127 ? -127 : code);
        }
        scales[place] = scale;
    }
}

void ar_attention_store(const ar_attention *a, int layer, float *qkv, int ld, int row, int unit) {
    const ar_heads *heads = a->heads;
    const ar_pool *pool = a->pool;
    float *x = qkv + (size_t)row * ld + (size_t)unit * pool->head_dim;
    if (heads->cos) turn(heads, a->step->positions[row], x);
    if (unit < heads->n_heads) return;
    int span = 0;
    while (row >= a->step->spans[span].first + a->step->spans[span].count) span++;
    const ar_span *of = a->step->spans + span;
    size_t place = place_of(pool, a->step, of, layer, unit - heads->n_heads, of->stored + row - of->first);
    keep(pool, pool->keys, pool->key_scales, place, x);
    keep(pool, pool->values, pool->value_scales, place, x + (size_t)pool->n_kv_heads * pool->head_dim);
}
