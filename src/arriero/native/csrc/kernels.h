/* What the kernels of the levels share: their arguments and the table that the dispatch takes them from. */
#ifndef ARRIERO_KERNELS_H
#define ARRIERO_KERNELS_H

#include "arriero.h"

#define AR_INLINE static inline __attribute__((always_inline))

/* A product of low-bit weights with activations that are int8 codes per group of 32 inputs. */
typedef struct {
    const uint8_t *codes;    /* tiles, see ar_matrix */
    const void *scales;      /* [tile][weight_groups][16] */
    int scale_kind;
    int bits;                /* 4 or 8 */
    int n;
    int groups;              /* groups of 32 inputs, the last padded with zeros */
    int per;                 /* groups of 32 inputs that share a weight scale */
    const int8_t *q;         /* [m][groups * 32] */
    const float *q_scales;   /* [m][groups] */
    const int32_t *q_shifts; /* [m][groups]: minus the weights' offset times the sum of the codes */
    const float *bias;
    float *y;
    int ldy;
} lowbit_work;

/* A product of row-major dense weights; x is float32, or bf16 for dpbf16. */
typedef struct {
    const void *w;
    const void *x;
    int n, k, ldx;
    const float *bias;
    float *y;
    int ldy;
} dense_work;

typedef struct {
    /* codes, scales and shifts of the groups [first, last) of one row of k inputs */
    void (*quantise)(const float *x, int k, int offset, int first, int last, int8_t *q, float *scales, int32_t *shifts);
    void (*lowbit)(const lowbit_work *work, int first_tile, int last_tile, int first_row, int last_row);
    void (*fp32)(const dense_work *work, int first, int last, int first_row, int last_row);
    void (*bf16)(const dense_work *work, int first, int last, int first_row, int last_row);
} ar_kernels;

extern const ar_kernels ar_kernels_portable;
#if defined(__x86_64__)
extern const ar_kernels ar_kernels_avx2, ar_kernels_avx512, ar_kernels_avx512vnni;
void ar_round_bf16(const float *x, int k, uint16_t *rounded);
void ar_bf16_dot(const dense_work *work, int first, int last, int first_row, int last_row);
#endif
const ar_kernels *ar_kernels_now(void);

#endif
