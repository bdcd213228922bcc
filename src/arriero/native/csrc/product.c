/* A product's way from its description to the kernels of the level in use. */
#include "kernels.h"

enum { ALIGNMENT = 64, CACHED_CODES = 192 * 1024, CACHED_DENSE = 512 * 1024 };

typedef struct {
    int groups;
    int8_t *q;
    float *scales;
    int32_t *shifts;
    size_t bytes;
} lowbit_scratch;

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static int is_lowbit(const ar_matrix *w) { return w->kind == AR_INT8 || w->kind == AR_INT4; }

static int rounds_to_bf16(const ar_matrix *w) { return w->kind == AR_BF16 && ar_has_bf16(); }

static lowbit_scratch divide(const ar_matrix *w, int m, const void *memory) {
    lowbit_scratch parts;
    parts.groups = (w->k + AR_GROUP - 1) / AR_GROUP;
    const size_t all = (size_t)m * parts.groups, codes = aligned(all * AR_GROUP), floats = aligned(all * 4);
    char *at = (char *)memory;
    parts.q = (int8_t *)at;
    parts.scales = (float *)(at + codes);
    parts.shifts = (int32_t *)(at + codes + floats);
    parts.bytes = codes + 2 * floats;
    return parts;
}

size_t ar_product_scratch(const ar_matrix *w, int m) {
    if (m <= 0) return 0;
    if (is_lowbit(w)) return divide(w, m, NULL).bytes;
    return rounds_to_bf16(w) ? aligned((size_t)m * w->k * 2) : 0;
}

int ar_same_scratch(const ar_matrix *a, const ar_matrix *b) { return a->kind == b->kind && a->k == b->k; }

/* This part of `count` things: from `first` up to `last`. */
static void share(long count, int part, int parts, long *first, long *last) {
    *first = count * part / parts;
    *last = count * (part + 1) / parts;
}

static void prepare_lowbit(const ar_matrix *w, const float *x, int m, int ldx, void *scratch, int part, int parts) {
    const lowbit_scratch to = divide(w, m, scratch);
    const ar_kernels *kernels = ar_kernels_now();
    long first, last;
    share((long)m * to.groups, part, parts, &first, &last);
    while (first < last) {
        const long row = first / to.groups, start = row * to.groups;
        const long end = start + to.groups < last ? start + to.groups : last;
        kernels->quantise(x + (size_t)row * ldx, w->k, w->kind == AR_INT4 ? 8 : 128, (int)(first - start),
                          (int)(end - start), to.q + first * AR_GROUP, to.scales + first, to.shifts + first);
        first = end;
    }
}

void ar_product_prepare(const ar_matrix *w, const float *x, int m, int ldx, void *scratch, int part, int parts) {
    if (is_lowbit(w)) {
        prepare_lowbit(w, x, m, ldx, scratch, part, parts);
        return;
    }
#if defined(__x86_64__)
    if (rounds_to_bf16(w)) {
        long first, last;
        share(m, part, parts, &first, &last);
        for (long row = first; row < last; ++row)
            ar_round_bf16(x + (size_t)row * ldx, w->k, (uint16_t *)scratch + (size_t)row * w->k);
    }
#endif
}

/* Rows whose codes stay in the second-level cache while all tiles of the part pass by. */
static int rows_at_once(size_t bytes_of_a_row, size_t cache) {
    const size_t rows = cache / (bytes_of_a_row + 1);
    return rows < 48 ? 48 : (int)(rows / 48 * 48);
}

static void product_lowbit(const ar_matrix *w, int m, const void *scratch, float *y, int ldy, int part, int parts) {
    const lowbit_scratch from = divide(w, m, scratch);
    const lowbit_work work = {
        .codes = w->codes, .scales = w->scales, .scale_kind = w->scale_kind, .bits = w->kind == AR_INT4 ? 4 : 8,
        .n = w->n, .groups = from.groups, .per = w->group >= w->k ? from.groups : w->group / AR_GROUP,
        .q = from.q, .q_scales = from.scales, .q_shifts = from.shifts, .bias = w->bias, .y = y, .ldy = ldy};
    const int tiles = (w->n + AR_TILE - 1) / AR_TILE, step = rows_at_once((size_t)from.groups * AR_GROUP, CACHED_CODES);
    long first, last;
    share(tiles, part, parts, &first, &last);
    for (int row = 0; row < m; row += step)
        ar_kernels_now()->lowbit(&work, (int)first, (int)last, row, row + step < m ? row + step : m);
}

static void product_dense(const ar_matrix *w, const float *x, int m, int ldx, const void *scratch, float *y, int ldy,
                          int part, int parts) {
    const int rounded = rounds_to_bf16(w);
    const dense_work work = {.w = w->codes, .x = rounded ? scratch : x, .n = w->n, .k = w->k, .ldx = rounded ? w->k : ldx,
                             .bias = w->bias, .y = y, .ldy = ldy};
    const int step = rows_at_once((size_t)w->k * (rounded ? 2 : 4), CACHED_DENSE);
    void (*kernel)(const dense_work *, int, int, int, int) =
        w->kind == AR_FP32 ? ar_kernels_now()->fp32 : ar_kernels_now()->bf16;
#if defined(__x86_64__)
    if (rounded) kernel = ar_bf16_dot;
#endif
    long first, last;
    share(w->n, part, parts, &first, &last);
    for (int row = 0; row < m; row += step) kernel(&work, (int)first, (int)last, row, row + step < m ? row + step : m);
}

void ar_product(const ar_matrix *w, const float *x, int m, int ldx, const void *scratch, float *y, int ldy, int part,
                int parts) {
    if (is_lowbit(w)) product_lowbit(w, m, scratch, y, ldy, part, parts);
    else product_dense(w, x, m, ldx, scratch, y, ldy, part, parts);
}

typedef struct {
    const ar_matrix *w;
    const float *x;
    int m, ldx;
    void *scratch;
    float *y;
    int ldy;
    ar_barrier prepared;
} whole;

static void whole_part(void *arg, int part, int parts) {
    whole *call = arg;
    if (ar_product_scratch(call->w, call->m)) {
        ar_product_prepare(call->w, call->x, call->m, call->ldx, call->scratch, part, parts);
        ar_barrier_wait(&call->prepared, parts);
    }
    ar_product(call->w, call->x, call->m, call->ldx, call->scratch, call->y, call->ldy, part, parts);
}

void ar_linear(const ar_matrix *w, const float *x, int m, int ldx, void *scratch, float *y, int ldy) {
    whole call = {w, x, m, ldx, scratch, y, ldy, {0, 0}};
    ar_parallel(whole_part, &call);
}
