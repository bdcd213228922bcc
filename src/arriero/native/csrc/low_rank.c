/* What LoRA adapters add to products: rows of several adapters, and of none, in one step. */
#include "program.h"

enum { CHUNK = 64 };

/* The matrices of product `p` of an operation for a row's adapter; none where the row or the product has none. */
static const ar_low_rank *matrices_of(const ar_op *op, const ar_step *step, int row, int p) {
    const int adapter = step->adapters[op->wanted ? step->wanted[row] : row];
    if (adapter < 0) return 0;
    const ar_low_rank *found = (const ar_low_rank *)op->weight + (size_t)adapter * op->variant + p;
    return found->rank ? found : 0;
}

void ar_low_rank_down(const ar_op *op, const ar_step *step, int row, int p, const float *x, float *low) {
    const ar_low_rank *w = matrices_of(op, step, row, p);
    if (!w) return;
    const ar_matrix a = {.kind = AR_FP32, .n = w->rank, .k = op->width, .group = op->width, .codes = w->a};
    ar_product(&a, x, 1, op->width, 0, low + (size_t)p * AR_MOST_RANK, AR_MOST_RANK, 0, 1);
}

static void add_columns(const ar_low_rank *w, const float *low, float *y, int first, int last) {
    float sum[CHUNK] = {0};
    const int n = last - first;
    for (int r = 0; r < w->rank; r++) {
        const float *b = w->b + (size_t)r * w->n + (first - w->column);
        const float times = low[r];
        for (int i = 0; i < n; i++) sum[i] += times * b[i];
    }
    for (int i = 0; i < n; i++) y[first + i] += sum[i];
}

int ar_low_rank_chunks(const ar_op *op) { return (op->width + CHUNK - 1) / CHUNK; }

void ar_low_rank_up(const ar_op *op, const ar_step *step, int row, int chunk, const float *low, float *y) {
    const int begin = chunk * CHUNK, end = begin + CHUNK < op->width ? begin + CHUNK : op->width;
    for (int p = 0; p < op->variant; p++) {
        const ar_low_rank *w = matrices_of(op, step, row, p);
        if (!w) continue;
        const int first = begin > w->column ? begin : w->column, stop = w->column + w->n;
        const int last = end < stop ? end : stop;
        if (first < last) add_columns(w, low + (size_t)p * AR_MOST_RANK, y, first, last);
    }
}
