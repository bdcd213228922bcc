/* Causal attention for training, in bfloat16 with float32 sums: what Python, the forward and the backward pass share.
 *
 * Scores are worked out transposed, [key][query]: a vector's lanes are queries, so that the softmax needs nothing across
 * lanes, and its weights lie as the next product reads them. Queries are taken 32 at a time with the keys up to
 * their last, so that little of the half that causality hides is worked out. */
#ifndef AR_TRAINING_ATTENTION_H
#define AR_TRAINING_ATTENTION_H

#include "training_threads.h"

enum {
    AR_QUERIES = 32, /* queries of a tile: the lanes of two vectors */
    AR_KEYS = 8,     /* keys whose scores are summed up in registers at once */
    AR_MOST_HEAD_DIM = 256,
};

/* bf16 [rows, heads, tokens, head_dim], the last dimension dense; strides in elements */
typedef struct {
    uint16_t *data;
    int64_t row, head, token;
} ar_headed;

typedef struct {
    int32_t rows, heads, kv_heads, tokens, head_dim, threads;
    float scale;          /* of the scores, above 0 */
    int32_t next;         /* item that the next thread takes; 0 at first */
    int32_t failed;       /* 1: a thread had no memory */
    int32_t pad;
    const int32_t *first; /* [rows, tokens]: the first key that each query sees; NULL: key 0 */
    float *shifts;        /* [rows, heads, tokens]: the product q k whose weight would be 1: log(sum e^(scale q k)) / scale */
    ar_headed q, k, v, out;
    ar_headed gradient, of_q, of_k, of_v; /* of the backward pass */
} ar_causal;

/* 1 where there are kernels for this processor, at the level in use. */
AR_EXPORT int ar_causal_there(void);
/* Write out and shifts. 0: done; 1: no memory. Results do not depend on the number of threads. */
AR_EXPORT int ar_causal_forward(ar_causal *work);
/* Write of_q, of_k and of_v from the rest. */
AR_EXPORT int ar_causal_backward(ar_causal *work);

static inline uint16_t *ar_headed_at(const ar_headed *x, int row, int head, int token) {
    return x->data + row * x->row + head * x->head + token * x->token;
}

static inline float *ar_shifts_at(const ar_causal *work, int row, int head, int token) {
    return work->shifts + ((size_t)row * work->heads + head) * work->tokens + token;
}

#if defined(__x86_64__)
/* One row and key-value head, with all heads of queries that share it: by one thread, so that sums have one order. */
size_t ar_causal_forward_bytes(const ar_causal *work);
void ar_causal_forward_item(const ar_causal *work, int row, int kv_head, char *scratch);
size_t ar_causal_backward_bytes(const ar_causal *work);
void ar_causal_backward_item(const ar_causal *work, int row, int kv_head, char *scratch);
#endif

#endif
