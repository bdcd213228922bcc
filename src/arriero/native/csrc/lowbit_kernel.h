/* The low-bit product over the operations of one level; included once by the file of each level.
 *
 * The including file defines the vectors VI (16 int32, or what it accumulates in), VF (16 float32), VW (64 code bytes),
 * VX (4 activations for every row), the operations on them, TARGET, MOST_ROWS, and the blocks of rows as BLOCKS.
 * Every output is computed by the same operations in the same order at every level and in every block:
 *   inner = fused(float(sum of the group's integer products), activation scale, inner), over the groups of a weight scale;
 *   y = fused(inner, weight scale, y), over the weight scales; then the bias is added. */

#ifndef UNROLL
#define UNROLL _Pragma("GCC unroll 16")
#endif

TARGET AR_INLINE VF read_scales(const lowbit_work *work, size_t at) {
    return work->scale_kind == AR_SCALE_BF16 ? load_bf16((const uint16_t *)work->scales + at)
                                             : load_fp32((const float *)work->scales + at);
}

/* Integer products of one group of 32 inputs: `rows` rows of activations with `tiles` tiles of 4-bit codes. */
TARGET AR_INLINE void group4(const uint8_t *const w[], const int8_t *q, size_t stride, const int32_t *shifts,
                             size_t shift_stride, VI sums[], int rows, int tiles) {
    UNROLL for (int i = 0; i < rows; ++i) {
        const VI start = begin4(shifts[i * shift_stride]);
        UNROLL for (int t = 0; t < tiles; ++t) sums[i * tiles + t] = start;
    }
    UNROLL for (int j = 0; j < 4; ++j) {
        VW low[2], high[2];
        UNROLL for (int t = 0; t < tiles; ++t) split4(w[t] + j * 64, &low[t], &high[t]);
        UNROLL for (int i = 0; i < rows; ++i) {
            const VX a = spread4(q + i * stride + j * 8), b = spread4(q + i * stride + j * 8 + 4);
            UNROLL for (int t = 0; t < tiles; ++t) sums[i * tiles + t] = dot4(sums[i * tiles + t], low[t], a);
            UNROLL for (int t = 0; t < tiles; ++t) sums[i * tiles + t] = dot4(sums[i * tiles + t], high[t], b);
        }
    }
    UNROLL for (int i = 0; i < rows; ++i)
        UNROLL for (int t = 0; t < tiles; ++t)
            sums[i * tiles + t] = end4(sums[i * tiles + t], shifts[i * shift_stride]);
}

TARGET AR_INLINE void group8(const uint8_t *const w[], const int8_t *q, size_t stride, const int32_t *shifts,
                             size_t shift_stride, VI sums[], int rows, int tiles) {
    UNROLL for (int i = 0; i < rows; ++i) {
        const VI start = begin8(shifts[i * shift_stride]);
        UNROLL for (int t = 0; t < tiles; ++t) sums[i * tiles + t] = start;
    }
    UNROLL for (int j = 0; j < 8; ++j) {
        VW codes[2];
        UNROLL for (int t = 0; t < tiles; ++t) codes[t] = load8(w[t] + j * 64);
        UNROLL for (int i = 0; i < rows; ++i) {
            const VX a = spread8(q + i * stride + j * 4);
            UNROLL for (int t = 0; t < tiles; ++t) sums[i * tiles + t] = dot8(sums[i * tiles + t], codes[t], a);
        }
    }
}

TARGET AR_INLINE void write_block(const lowbit_work *work, int tile, int row, const VF sums[], int rows, int tiles) {
    UNROLL for (int t = 0; t < tiles; ++t) {
        const int column = (tile + t) * AR_TILE;
        const int there = work->n - column < AR_TILE ? work->n - column : AR_TILE;
        const VF bias = work->bias ? load_some(work->bias + column, there) : zeros();
        UNROLL for (int i = 0; i < rows; ++i) {
            const VF sum = work->bias ? add(sums[i * tiles + t], bias) : sums[i * tiles + t];
            store_some(work->y + (size_t)(row + i) * work->ldy + column, sum, there);
        }
    }
}

/* `rows` rows with `tiles` neighbouring tiles; all but work, tile and row are known when it is compiled. */
TARGET AR_INLINE void block(const lowbit_work *work, int tile, int row, int bits, int shared, int rows, int tiles) {
    const size_t groups = work->groups, block_bytes = bits == 4 ? 256 : 512;
    const size_t per = shared ? work->per : 1, scale_groups = groups / per;
    const int8_t *q = work->q + row * groups * AR_GROUP;
    const float *q_scales = work->q_scales + row * groups;
    const int32_t *shifts = work->q_shifts + row * groups;
    const uint8_t *w[2];
    VF sums[2 * MOST_ROWS], inner[2 * MOST_ROWS];
    VI ints[2 * MOST_ROWS];
    UNROLL for (int t = 0; t < tiles; ++t) w[t] = work->codes + (tile + t) * groups * block_bytes;
    UNROLL for (int i = 0; i < rows * tiles; ++i) sums[i] = zeros();
    for (size_t scale_group = 0, group = 0; scale_group < scale_groups; ++scale_group) {
        if (shared) {
            UNROLL for (int i = 0; i < rows * tiles; ++i) inner[i] = zeros();
        }
        const size_t end = group + per;
        do {
            UNROLL for (int t = 0; t < tiles; ++t) fetch(w[t], bits);
            if (bits == 4) group4(w, q + group * AR_GROUP, groups * AR_GROUP, shifts + group, groups, ints, rows, tiles);
            else group8(w, q + group * AR_GROUP, groups * AR_GROUP, shifts + group, groups, ints, rows, tiles);
            UNROLL for (int t = 0; t < tiles; ++t) w[t] += block_bytes;
            UNROLL for (int i = 0; i < rows; ++i) {
                const VF scale = spread_fp32(q_scales[i * groups + group]);
                UNROLL for (int t = 0; t < tiles; ++t) {
                    const VF floats = to_fp32(ints[i * tiles + t]);
                    inner[i * tiles + t] = shared ? fused(floats, scale, inner[i * tiles + t]) : multiply(floats, scale);
                }
            }
        } while (++group < end && shared);
        UNROLL for (int t = 0; t < tiles; ++t) {
            const VF scale = read_scales(work, ((size_t)(tile + t) * scale_groups + scale_group) * AR_TILE);
            UNROLL for (int i = 0; i < rows; ++i) sums[i * tiles + t] = fused(inner[i * tiles + t], scale, sums[i * tiles + t]);
        }
    }
    write_block(work, tile, row, sums, rows, tiles);
}

#ifndef MOST_SHARED
#define MOST_SHARED MOST_ROWS
#endif

#define AR_NAME(bits, shared, rows, tiles) block_##bits##_##shared##_##rows##_##tiles
#define AR_BLOCK(bits, shared, rows, tiles)                                                                \
    TARGET static __attribute__((noinline)) void AR_NAME(bits, shared, rows, tiles)(const lowbit_work *work, int tile, \
                                                                                     int row) {            \
        block(work, tile, row, bits, shared, rows, tiles);                                                 \
    }
#define AR_BLOCKS(rows)                                                                      \
    AR_BLOCK(4, 0, rows, 1) AR_BLOCK(4, 0, rows, 2) AR_BLOCK(4, 1, rows, 1) AR_BLOCK(4, 1, rows, 2) \
    AR_BLOCK(8, 0, rows, 1) AR_BLOCK(8, 0, rows, 2) AR_BLOCK(8, 1, rows, 1) AR_BLOCK(8, 1, rows, 2)
BLOCKS(AR_BLOCKS)

typedef void (*block_function)(const lowbit_work *, int, int);
typedef struct {
    int rows;
    block_function of[2][2][2]; /* 8 bits, shared scales, two tiles */
} block_size;
#define AR_ROW(r)                                                                                      \
    {r,                                                                                                \
     {{{AR_NAME(4, 0, r, 1), AR_NAME(4, 0, r, 2)}, {AR_NAME(4, 1, r, 1), AR_NAME(4, 1, r, 2)}},         \
      {{AR_NAME(8, 0, r, 1), AR_NAME(8, 0, r, 2)}, {AR_NAME(8, 1, r, 1), AR_NAME(8, 1, r, 2)}}}},
/* from the largest block to single rows */
static const block_size sizes[] = {BLOCKS(AR_ROW)};

/* The largest block for these rows; 7 and 8 rows are 4 and the rest, since blocks of 1 and 2 are the slow ones. */
AR_INLINE const block_size *size_for(int rows, int most) {
    const block_size *size = sizes;
    if (rows == 7 || rows == 8) most = most < 4 ? most : 4;
    while (size->rows > rows || size->rows > most) ++size;
    return size;
}

static void lowbit(const lowbit_work *work, int first_tile, int last_tile, int first_row, int last_row) {
    const int eight = work->bits == 8, shared = work->per > 1, most = shared ? MOST_SHARED : MOST_ROWS;
    for (int tile = first_tile; tile < last_tile;) {
        const int tiles = last_tile - tile >= 2 ? 2 : 1;
        for (int row = first_row; row < last_row;) {
            const block_size *size = size_for(last_row - row, most);
            size->of[eight][shared][tiles - 1](work, tile, row);
            row += size->rows;
        }
        tile += tiles;
    }
}
