/* What the levels' vector kernels (rows, attention) share: the table that the dispatch takes them from, and a tile. */
#ifndef AR_VECTOR_KERNELS_H
#define AR_VECTOR_KERNELS_H

#include "program.h"

#define BLOCK 64       /* keys of a block of the pool */
#define CHUNK_BLOCKS 4 /* blocks of a chunk */
#define CHUNK (BLOCK * CHUNK_BLOCKS)
#define TILE 64        /* (row, head) pairs of a tile */

static inline int padded(int width) { return (width + 15) & ~15; }
static inline int imin(int a, int b) { return a < b ? a : b; }
static inline int imax(int a, int b) { return a > b ? a : b; }
static inline int up(int a, int b) { return (a + b - 1) / b; }

/* what an item needs, on the stack of its thread or in its scratch */
typedef struct {
    const ar_attention *a;
    int layer, kv_head, first_row, n_rows, group, head_dim, width; /* width: head_dim padded to 16 */
    const ar_span *span;
    float *q;          /* [pairs, width], scaled */
    float *scores;     /* [pairs, 64] */
    float *keys;       /* [width, 64] */
    float *values;     /* [64, width] */
    float *sums;       /* [pairs, width] of this chunk */
    float *weights;    /* [pairs, 16]: lanes of the softmax's sum in this chunk */
    float *largest;    /* [pairs]: largest score in this chunk */
    float *total;      /* [pairs, width + 2] over all chunks so far: sums, weight, largest */
} tile;

/* the vector of a key in the pool, counted in vectors */
static inline size_t place_of(const ar_pool *pool, const ar_step *step, const ar_span *span, int layer, int kv_head, int key) {
    size_t block = (size_t)step->blocks[span->block + key / BLOCK];
    return (((size_t)layer * pool->n_blocks + block) * pool->n_kv_heads + kv_head) * BLOCK + key % BLOCK;
}

/* first and one past the last key that a row sees */
static inline int key_end(const tile *t, int row) { return t->span->stored + row + 1; }
static inline int key_begin(const tile *t, int row) {
    int window = t->a->heads->window;
    return window ? imax(0, key_end(t, row) - window) : 0;
}

typedef struct {
    void (*add)(float *x, const float *y, const float *z, int n);
    void (*norm)(int kind, const float *x, const float *weight, const float *bias, float eps, float *out, int n);
    void (*activation)(int kind, const float *x, const float *times, float *out, int n);
    void (*chunk[3])(tile *t, int chunk); /* by the pool's element */
    void (*join)(float *total, const float *o, float w, float m, int width);
    float (*sum)(const float *lanes);
} ar_vector_kernels;

#if defined(__x86_64__)
extern const ar_vector_kernels ar_vectors_avx512, ar_vectors_avx2;
#endif
extern const ar_vector_kernels ar_vectors_portable;
const ar_vector_kernels *ar_vector_kernels_now(void);

#endif
