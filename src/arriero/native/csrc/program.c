/* Runs a program: the team goes through the operations together and waits between them. */
#include "program.h"

#include <string.h>

enum { LINE = 64, PIECES = 4, PIECE_ROWS = 64 };

typedef struct {
    const ar_program *program;
    const ar_pool *pool;
    const ar_step *step;
    float **buffers;
    void *scratch;         /* activations of the next product */
    char *attention_scratch; /* one for each part */
    size_t attention_bytes;
    int32_t *counters;     /* pieces of each operation that are taken */
    ar_attention attention;
    ar_barrier barrier;
} run;

static size_t lines(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

static int rows_of(const ar_op *op, const ar_step *step) { return op->wanted ? step->n_wanted : step->rows; }

/* ---- memory ---- */

typedef struct {
    size_t buffers, scratch, attention, attention_each, counters, shares, pointers, partial, total;
} layout;

static size_t take(size_t *end, size_t bytes) {
    size_t at = *end;
    *end += lines(bytes);
    return at;
}

static layout layout_of(const ar_program *program, const ar_pool *pool, const ar_step *step, int parts) {
    layout l = {0};
    size_t floats = 0, scratch = 0, end = 0;
    for (int b = 0; b < program->n_buffers; b++) floats += lines((size_t)step->rows * program->widths[b] * sizeof(float));
    for (int i = 0; i < program->n_ops; i++) {
        const ar_op *op = program->ops + i;
        size_t bytes = op->matrix ? ar_product_scratch(op->matrix, rows_of(op, step)) : 0;
        if (bytes > scratch) scratch = bytes;
    }
    l.attention_each = lines(ar_attention_scratch(&program->heads, pool)) + LINE;
    l.counters = take(&end, sizeof(int32_t) * (size_t)program->n_ops);
    l.shares = take(&end, sizeof(ar_share) * (size_t)(step->n_spans + 1));
    l.pointers = take(&end, sizeof(float *) * (size_t)program->n_buffers);
    l.buffers = take(&end, floats);
    l.scratch = take(&end, scratch);
    l.attention = take(&end, l.attention_each * (size_t)parts);
    l.partial = end;
    l.total = end + LINE;
    return l;
}

static float *row_of(const run *r, int buffer, int row, int *ld) {
    *ld = r->program->widths[buffer];
    return r->buffers[buffer] + (size_t)row * *ld;
}

/* ---- operations; `prepare` brings one finished row into the form of the next product ---- */

static void prepare(const run *r, const ar_op *op, const float *x, int rows, int ld, int row) {
    if (op->matrix) ar_product_prepare(op->matrix, x, rows, ld, r->scratch, row, rows);
}

static void embed_row(const run *r, const ar_op *op, int row) {
    int ld;
    float *out = row_of(r, op->out, row, &ld);
    ar_embed_row(op->weight, op->variant, r->step->ids[row], 0, out, op->width);
    if (op->bias) ar_embed_row(op->bias, op->variant2, r->step->positions[row] + op->offset, 1, out, op->width);
}

static void norm_row(const run *r, const ar_op *op, int row) {
    int ld;
    float *x = row_of(r, op->in, row, &ld), *out = x;
    if (op->in2 >= 0) {
        const float *y = row_of(r, op->in2, row, &ld), *z = op->in3 >= 0 ? row_of(r, op->in3, row, &ld) : 0;
        ar_add_rows(x, y, z, op->width);
    }
    if (op->variant != AR_NORM_NONE) {
        out = row_of(r, op->out, row, &ld);
        ar_norm_row(op->variant, x, op->weight, op->bias, op->eps, out, op->width);
    }
    prepare(r, op, out - (size_t)row * op->width, rows_of(op, r->step), op->width, row);
}

static void merge_row(const run *r, const ar_op *op, int row) {
    int ld, from = op->wanted ? r->step->wanted[row] : row;
    float *in = row_of(r, op->in, from, &ld), *out = row_of(r, op->out, row, &ld);
    ar_attention_merge(&r->attention, from, in);
    if (in != out) memcpy(out, in, sizeof(float) * (size_t)op->width);
    prepare(r, op, r->buffers[op->out], rows_of(op, r->step), ld, row);
}

static void gather_row(const run *r, const ar_op *op, int row) {
    int ld;
    const float *from = row_of(r, op->in, r->step->wanted[row], &ld);
    memcpy(row_of(r, op->out, row, &ld), from, sizeof(float) * (size_t)op->width);
}

static void activation_row(const run *r, const ar_op *op, int row, int first, int last) {
    int ld, ld_out;
    const float *x = row_of(r, op->in, row, &ld);
    float *out = row_of(r, op->out, row, &ld_out);
    const float *times = op->kind == AR_GATED ? x + op->width + first : 0;
    ar_activation(op->variant, x + first, times, out + first, last - first);
}

/* An activation of few rows is split by columns, the way the preparation of low-bit products is. */
static void activation_part(const run *r, const ar_op *op, int part, int parts) {
    int rows = rows_of(op, r->step);
    int low_bit = op->matrix && (op->matrix->kind == AR_INT8 || op->matrix->kind == AR_INT4);
    if (rows == 1 && low_bit) {
        long groups = (op->width + AR_GROUP - 1) / AR_GROUP;
        int first = (int)(groups * part / parts) * AR_GROUP, last = (int)(groups * (part + 1) / parts) * AR_GROUP;
        activation_row(r, op, 0, first, last < op->width ? last : op->width);
        ar_product_prepare(op->matrix, r->buffers[op->out], 1, r->program->widths[op->out], r->scratch, part, parts);
        return;
    }
    for (int row = (int)((long)rows * part / parts); row < (int)((long)rows * (part + 1) / parts); row++) {
        activation_row(r, op, row, 0, op->width);
        prepare(r, op, r->buffers[op->out], rows, r->program->widths[op->out], row);
    }
}

static int next_piece(const run *r, const ar_op *op) {
    return __atomic_fetch_add(r->counters + (op - r->program->ops), 1, __ATOMIC_RELAXED);
}

static void product_part(const run *r, const ar_op *op, int part, int parts) {
    int rows = rows_of(op, r->step), ld = r->program->widths[op->in];
    int ldy = op->out == AR_LOGITS ? op->matrix->n : r->program->widths[op->out];
    float *y = (op->out == AR_LOGITS ? r->step->logits : r->buffers[op->out]) + op->offset;
    int pieces = parts * PIECES, most = op->matrix->n / PIECE_ROWS;
    if (pieces > most) pieces = most > parts ? most : parts;
    if (parts == 1) pieces = 1;
    (void)part;
    for (int piece; (piece = next_piece(r, op)) < pieces;)
        ar_product(op->matrix, r->buffers[op->in], rows, ld, r->scratch, y, ldy, piece, pieces);
}

static void store_part(const run *r, const ar_op *op, int part, int parts) {
    int units = r->program->heads.n_heads + r->pool->n_kv_heads, ld = r->program->widths[op->in];
    long all = (long)r->step->rows * units;
    for (long i = all * part / parts; i < all * (part + 1) / parts; i++)
        ar_attention_store(&r->attention, op->layer, r->buffers[op->in], ld, (int)(i / units), (int)(i % units));
}

static void attend_part(const run *r, const ar_op *op, int part) {
    void *scratch = r->attention_scratch + r->attention_bytes * (size_t)part;
    int items = r->attention.shares[r->step->n_spans].items, item;
    while ((item = next_piece(r, op)) < items)
        ar_attention_item(&r->attention, op->layer, item, r->buffers[op->in], r->program->widths[op->in],
                          r->buffers[op->out], scratch);
}

static void rows_part(const run *r, const ar_op *op, int part, int parts, void (*body)(const run *, const ar_op *, int)) {
    long rows = rows_of(op, r->step);
    for (int row = (int)(rows * part / parts); row < (int)(rows * (part + 1) / parts); row++) body(r, op, row);
}

static void low_rank_part(const run *r, const ar_op *op, int part, int parts) {
    const int down = op->kind == AR_LOW_RANK_DOWN, each = down ? op->variant : ar_low_rank_chunks(op);
    const long units = (long)rows_of(op, r->step) * each;
    for (long i = units * part / parts; i < units * (part + 1) / parts; i++) {
        int row = (int)(i / each), unit = (int)(i % each), ld;
        const float *in = row_of(r, op->in, row, &ld);
        float *out = row_of(r, op->out, row, &ld);
        if (down) ar_low_rank_down(op, r->step, row, unit, in, out);
        else ar_low_rank_up(op, r->step, row, unit, in, out);
    }
}

static int rests(const ar_op *op, const ar_step *step) {
    return !step->adapters && (op->kind == AR_LOW_RANK_DOWN || op->kind == AR_LOW_RANK_UP);
}

static void op_part(const run *r, const ar_op *op, int part, int parts) {
    switch (op->kind) {
        case AR_EMBED: rows_part(r, op, part, parts, embed_row); break;
        case AR_NORM: rows_part(r, op, part, parts, norm_row); break;
        case AR_PRODUCT: product_part(r, op, part, parts); break;
        case AR_STORE: store_part(r, op, part, parts); break;
        case AR_ATTEND: attend_part(r, op, part); break;
        case AR_MERGE: rows_part(r, op, part, parts, merge_row); break;
        case AR_GATED:
        case AR_ACT: activation_part(r, op, part, parts); break;
        case AR_GATHER: rows_part(r, op, part, parts, gather_row); break;
        case AR_LOW_RANK_DOWN:
        case AR_LOW_RANK_UP: low_rank_part(r, op, part, parts); break;
        default: break;
    }
}

static void run_part(void *arg, int part, int parts) {
    run *r = arg;
    for (int i = 0; i < r->program->n_ops; i++) {
        const ar_op *op = r->program->ops + i;
        if (rows_of(op, r->step) == 0 || rests(op, r->step)) continue;
        op_part(r, op, part, parts);
        if (!op->chained) ar_barrier_wait(&r->barrier, parts);
    }
}

/* ---- in and out ---- */

size_t ar_program_bytes(const ar_program *program, const ar_pool *pool, const ar_step *step, int parts) {
    return layout_of(program, pool, step, parts).total + sizeof(float) * ar_attention_partial(&program->heads, pool, step);
}

void ar_program_run(const ar_program *program, const ar_pool *pool, const ar_step *step, void *arena, int parts) {
    char *base = (char *)lines((size_t)(uintptr_t)arena);
    layout l = layout_of(program, pool, step, parts);
    run r = {.program = program, .pool = pool, .step = step, .scratch = base + l.scratch};
    ar_share *shares = (ar_share *)(base + l.shares);
    char *next = base + l.buffers;
    r.buffers = (float **)(base + l.pointers);
    for (int b = 0; b < program->n_buffers; b++) {
        r.buffers[b] = (float *)next;
        next += lines((size_t)step->rows * program->widths[b] * sizeof(float));
    }
    r.counters = memset(base + l.counters, 0, sizeof(int32_t) * (size_t)program->n_ops);
    r.attention_scratch = base + l.attention;
    r.attention_bytes = l.attention_each;
    ar_attention_plan(&program->heads, pool, step, shares);
    r.attention = (ar_attention){&program->heads, pool, step, shares, (float *)(base + l.partial)};
    ar_parallel(run_part, &r);
}
