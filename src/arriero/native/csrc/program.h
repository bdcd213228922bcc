/* A decoder's forward pass as a list of operations on float32 rows, run by the team. */
#ifndef AR_PROGRAM_H
#define AR_PROGRAM_H

#include "arriero.h"

/* of a pool, of an embedding table */
enum { AR_ELEMENT_FP32 = 0, AR_ELEMENT_BF16 = 1, AR_ELEMENT_INT8 = 2 };

/* Keys and values: [n_layers, n_blocks, n_kv_heads, 64, head_dim]; scales float [n_layers, n_blocks, n_kv_heads, 64]
 * of an int8 pool, one for each token and head. */
typedef struct {
    int32_t kind, n_blocks, n_kv_heads, head_dim;
    void *keys, *values;
    float *key_scales, *value_scales;
} ar_pool;

/* What all layers' attentions have in common. */
typedef struct {
    int32_t n_heads, window; /* window 0: everything before */
    int32_t rotary_width, tables;
    float scale;
    float pad;
    const float *cos, *sin; /* [tables, rotary_width], or none */
    const float *slopes;    /* ALiBi, [n_heads], or none */
} ar_heads;

typedef struct {
    int32_t first, count, stored, block; /* block: where its blocks begin in ar_step.blocks */
} ar_span;

typedef struct {
    int32_t rows, n_spans, n_wanted, pad;
    const int32_t *ids, *positions, *wanted, *blocks;
    const ar_span *spans;
    float *logits; /* [n_wanted, vocabulary] */
    const int32_t *adapters; /* of each row its adapter's number, -1: none; or NULL: no row has one */
} ar_step;

#define AR_MOST_RANK 128

/* What an adapter adds to a product: columns `column` .. `column + n` of the result get b^T (a in); rank 0: nothing. */
typedef struct {
    int32_t rank, n, column, pad;
    const float *a, *b; /* [rank, width of the input], [rank, n] */
} ar_low_rank;

enum {
    AR_EMBED = 0,   /* out = table[id] (+ places[position + offset]) */
    AR_NORM = 1,    /* in += in2 (+ in3); out = norm(in); either may be left out; then the matrix's activations */
    AR_PRODUCT = 2, /* out = matrix in */
    AR_STORE = 3,   /* turn queries and keys of in, keys and values into the pool */
    AR_ATTEND = 4,  /* out = attention of in */
    AR_MERGE = 5,   /* out = what the chunks of long contexts give together; then the matrix's activations */
    AR_GATED = 6,   /* out = act(in[:, :width]) * in[:, width:]; then the matrix's activations */
    AR_ACT = 7,     /* out = act(in); then the matrix's activations */
    AR_GATHER = 8,  /* out = the wanted rows of in */
    AR_LOW_RANK_DOWN = 9, /* out = a in, for each of `variant` products; weight: ar_low_rank [adapters, variant] */
    AR_LOW_RANK_UP = 10,  /* out += b^T in, with the same weight; neither does anything where no row has an adapter */
};

enum { AR_NORM_NONE = 0, AR_NORM_RMS = 1, AR_NORM_LAYER = 2 };
enum { AR_SILU = 0, AR_GELU = 1, AR_GELU_TANH = 2, AR_GELU_QUICK = 3, AR_RELU = 4, AR_TANH = 5 };

typedef struct {
    int32_t kind;
    int32_t wanted;  /* 0: all rows; 1: those whose logits are asked for */
    int32_t chained; /* the next operation needs nothing of this one: no waiting in between */
    int32_t in, in2, in3, out; /* buffers; -1: none; AR_LOGITS */
    int32_t width;
    int32_t layer;
    int32_t variant;  /* of the norm, of the activation; dtype of an embedding's table */
    int32_t variant2; /* dtype of an embedding's table of places */
    int32_t offset; /* first unused rows of a table of places; column of out at which a product begins */
    float eps, pad;
    const void *weight, *bias;
    const ar_matrix *matrix;
} ar_op;

#define AR_LOGITS (-2)

typedef struct {
    const ar_op *ops;
    const int32_t *widths; /* floats in a row of each buffer */
    int32_t n_ops, n_buffers;
    ar_heads heads;
} ar_program;

/* Bytes that ar_program_run needs at `arena` (any alignment) for such a step. */
AR_EXPORT size_t ar_program_bytes(const ar_program *program, const ar_pool *pool, const ar_step *step, int parts);
AR_EXPORT void ar_program_run(const ar_program *program, const ar_pool *pool, const ar_step *step, void *arena, int parts);

/* ---- between the files ---- */

typedef struct {
    int32_t items; /* work items of all spans before this one */
    int32_t split; /* chunks of keys that are worked out apart, or 0 */
    size_t partial; /* where their results begin, in floats */
} ar_share;

typedef struct {
    const ar_heads *heads;
    const ar_pool *pool;
    const ar_step *step;
    const ar_share *shares; /* [n_spans + 1] */
    float *partial;
} ar_attention;

/* Cuts the step's attention into work items; `shares` [n_spans + 1]. */
void ar_attention_plan(const ar_heads *heads, const ar_pool *pool, const ar_step *step, ar_share *shares);
/* Floats of the results of single chunks. */
size_t ar_attention_partial(const ar_heads *heads, const ar_pool *pool, const ar_step *step);
size_t ar_attention_scratch(const ar_heads *heads, const ar_pool *pool);
void ar_attention_item(const ar_attention *a, int layer, int item, const float *qkv, int ld, float *out, void *scratch);
void ar_attention_merge(const ar_attention *a, int row, float *out);
void ar_attention_store(const ar_attention *a, int layer, float *qkv, int ld, int row, int unit);

void ar_low_rank_down(const ar_op *op, const ar_step *step, int row, int p, const float *x, float *low);
int ar_low_rank_chunks(const ar_op *op);
void ar_low_rank_up(const ar_op *op, const ar_step *step, int row, int chunk, const float *low, float *y);

void ar_add_rows(float *x, const float *y, const float *z, int n);
void ar_norm_row(int kind, const float *x, const float *weight, const float *bias, float eps, float *out, int n);
void ar_activation(int kind, const float *x, const float *times, float *out, int n);
void ar_embed_row(const void *table, int dtype, long row, int add, float *out, int n);

#endif
