/* The product with row-major dense weights over the operations of one level; included once by the file of each level.
 *
 * Each output is the sum of 16 lanes that run along the inputs; the last inputs are padded with zeros. Nothing in it
 * depends on the block that computes it. bf16 weights are widened; activations are float32. */

enum { DENSE_COLUMNS = 4 };

TARGET AR_INLINE VF weights_at(const dense_work *work, int column, int at, int bf16) {
    const size_t place = (size_t)column * work->k + at;
    return bf16 ? load_bf16((const uint16_t *)work->w + place) : load_fp32((const float *)work->w + place);
}

TARGET AR_INLINE VF last_weights(const dense_work *work, int column, int at, int bf16) {
    const size_t place = (size_t)column * work->k + at;
    return bf16 ? load_some_bf16((const uint16_t *)work->w + place, work->k - at)
                : load_some((const float *)work->w + place, work->k - at);
}

TARGET AR_INLINE void dense_block(const dense_work *work, int column, int row, int bf16, int rows, int columns) {
    const float *x = (const float *)work->x + (size_t)row * work->ldx;
    VF sums[4 * DENSE_COLUMNS];
    int at = 0;
    UNROLL for (int i = 0; i < rows * columns; ++i) sums[i] = zeros();
    for (; at + 16 <= work->k; at += 16) {
        VF inputs[4];
        UNROLL for (int i = 0; i < rows; ++i) inputs[i] = load_fp32(x + (size_t)i * work->ldx + at);
        UNROLL for (int c = 0; c < columns; ++c) {
            const VF w = weights_at(work, column + c, at, bf16);
            UNROLL for (int i = 0; i < rows; ++i) sums[i * columns + c] = fused(w, inputs[i], sums[i * columns + c]);
        }
    }
    if (at < work->k) {
        UNROLL for (int i = 0; i < rows; ++i) {
            const VF inputs = load_some(x + (size_t)i * work->ldx + at, work->k - at);
            UNROLL for (int c = 0; c < columns; ++c)
                sums[i * columns + c] = fused(last_weights(work, column + c, at, bf16), inputs, sums[i * columns + c]);
        }
    }
    UNROLL for (int i = 0; i < rows; ++i)
        UNROLL for (int c = 0; c < columns; ++c) {
            const float sum = sum_lanes(sums[i * columns + c]);
            work->y[(size_t)(row + i) * work->ldy + column + c] = work->bias ? sum + work->bias[column + c] : sum;
        }
}

/* All rows with a few columns, so that the weights come from memory once. */
TARGET AR_INLINE void dense_columns(const dense_work *work, int column, int first_row, int last_row, int bf16, int columns) {
    int row = first_row;
    for (; row + 4 <= last_row; row += 4) dense_block(work, column, row, bf16, 4, columns);
    for (; row + 2 <= last_row; row += 2) dense_block(work, column, row, bf16, 2, columns);
    for (; row < last_row; ++row) dense_block(work, column, row, bf16, 1, columns);
}

TARGET AR_INLINE void dense(const dense_work *work, int first, int last, int first_row, int last_row, int bf16) {
    int column = first;
    for (; column + DENSE_COLUMNS <= last; column += DENSE_COLUMNS)
        dense_columns(work, column, first_row, last_row, bf16, DENSE_COLUMNS);
    for (; column < last; ++column) dense_columns(work, column, first_row, last_row, bf16, 1);
}

TARGET static void dense_fp32(const dense_work *work, int first, int last, int first_row, int last_row) {
    dense(work, first, last, first_row, last_row, 0);
}

TARGET static void dense_bf16(const dense_work *work, int first, int last, int first_row, int last_row) {
    dense(work, first, last, first_row, last_row, 1);
}
