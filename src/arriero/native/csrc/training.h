/* Passes of a training step that are no products, each over its tensors once; float32 inside. */
#ifndef ARRIERO_TRAINING_H
#define ARRIERO_TRAINING_H

#include "kernels.h"

enum ar_activation_kind { AR_WIDE = 0, AR_HALF = 1 }; /* float32, bfloat16 */

/* silu(gate) * up, and its gradients. All of `kind`, n elements. */
typedef struct {
    int kind;
    const void *gate, *up;
    const void *gradient; /* of the product; NULL: forward */
    void *inner;          /* the product; NULL in a backward pass that does not want it again */
    void *dgate, *dup;    /* dup may be `gradient` */
    long n;
} ar_gate_work;

/* RMSNorm over rows of `width`: y = x * inverse * weight, inverse = 1 / sqrt(mean(x^2) + eps). */
typedef struct {
    int x_kind, y_kind;   /* of x, stream and dx; of y and its gradient */
    long rows;
    int width;
    float eps;
    const void *x;
    const float *weight;
    float *inverse;       /* [rows] */
    void *y;
    const void *gradient; /* of y */
    const void *stream;   /* what is added to x's gradient, or NULL */
    void *dx;
    float *dweight;       /* [width] */
    float *partial;       /* ar_norm_scratch floats */
    int again;            /* forward: `inverse` is there already */
} ar_norm_work;

/* A head's scores, which become softmax minus one-hot in their place. */
typedef struct {
    int kind, failed;
    void *scores;           /* [rows][vocab] */
    const int64_t *targets; /* [rows], each in 0 .. vocab - 1 */
    const uint8_t *scored;  /* [rows]: 1 where the cross-entropy counts */
    float *losses;          /* [rows] */
    long rows, vocab;
    float total;            /* sum of the losses */
} ar_loss_work;

/* sum = a + b; sum may be a. */
typedef struct {
    const float *a;
    const uint16_t *b; /* bfloat16 */
    float *sum;
    long n;
} ar_sum_work;

typedef struct {
    void (*gate)(const ar_gate_work *work, long first, long last);
    void (*gate_backward)(const ar_gate_work *work, long first, long last);
    void (*norm)(const ar_norm_work *work, long first, long last);
    void (*norm_backward)(const ar_norm_work *work, long first, long last, float *dweight);
    void (*loss)(const ar_loss_work *work, long first, long last, float *row);
    void (*sum)(const ar_sum_work *work, long first, long last);
} ar_training_kernels;

#if defined(__x86_64__)
extern const ar_training_kernels ar_training_avx512, ar_training_avx512bf16;
#endif

/* 1 where there are kernels for this processor, at the level in use; else the rest must not be called. */
AR_EXPORT int ar_training_there(void);
/* 0: round to bfloat16 by integers even where the processor can do it by itself, for tests. */
AR_EXPORT void ar_training_rounding(int own);
AR_EXPORT void ar_gate(const ar_gate_work *work, int threads);
AR_EXPORT void ar_norm(const ar_norm_work *work, int threads);
AR_EXPORT long ar_norm_scratch(long rows, int width);
AR_EXPORT void ar_norm_backward(const ar_norm_work *work, int threads);
/* 0: done; 1: no memory. */
AR_EXPORT int ar_loss(ar_loss_work *work, int threads);
AR_EXPORT void ar_sum(const ar_sum_work *work, int threads);

#endif
