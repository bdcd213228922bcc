/* What Python tells the rotary kernel. It is there where ar_causal_there says so. */
#ifndef AR_TRAINING_ROTARY_H
#define AR_TRAINING_ROTARY_H

#include "training_attention.h"

typedef struct {
    int32_t rows, heads, tokens, head_dim, threads;
    int32_t width;     /* dimensions of a head that turn, even */
    int32_t direction; /* 1; -1: back */
    int32_t next;      /* stretch of tokens that the next thread takes; 0 at first */
    const float *cos, *sin;         /* [rows, tokens, width], the first half's sines negative */
    int64_t table_row, table_token; /* their strides, in elements */
    ar_headed x, out;
} ar_rotary;

AR_EXPORT void ar_rotate(ar_rotary *work);

#endif
