/* RMSNorm, row by row: a row is read from memory once and is in the first cache when it is read again. */

T_INLINE void add_square(int kind, const void *x, long at, __mmask16 there, __m512 *sum) {
    const __m512 part = load(kind, x, at, there);
    *sum = _mm512_fmadd_ps(part, part, *sum);
}

T_INLINE float mean_square(int kind, const void *x, int width) {
    __m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
    int at = 0;
    for (; at + 64 <= width; at += 64) {
        add_square(kind, x, at, ALL, &a);
        add_square(kind, x, at + 16, ALL, &b);
        add_square(kind, x, at + 32, ALL, &c);
        add_square(kind, x, at + 48, ALL, &d);
    }
    for (; at < width; at += 16) add_square(kind, x, at, first_lanes(width - at), &a);
    return lanes_sum(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d))) / (float)width;
}

T_INLINE void *row_of(int kind, const void *x, long row, int width) {
    return (char *)x + (size_t)row * width * (kind == AR_HALF ? 2 : 4);
}

T_INLINE void weigh(int x_kind, int y_kind, const void *x, __m512 inverse, const float *weight, void *y, long at,
                    __mmask16 there) {
    const __m512 normalised = _mm512_mul_ps(load(x_kind, x, at, there), inverse);
    store(y_kind, y, at, there, _mm512_mul_ps(normalised, load(AR_WIDE, weight, at, there)));
}

T_INLINE void norm_body(int x_kind, int y_kind, const ar_norm_work *work, long first, long last) {
    for (long row = first; row < last; ++row) {
        const void *x = row_of(x_kind, work->x, row, work->width);
        void *y = row_of(y_kind, work->y, row, work->width);
        if (!work->again) work->inverse[row] = 1.0f / sqrtf(mean_square(x_kind, x, work->width) + work->eps);
        const __m512 inverse = _mm512_set1_ps(work->inverse[row]);
#define WEIGH(at, there) weigh(x_kind, y_kind, x, inverse, work->weight, y, at, there)
        VECTORS(0, work->width, WEIGH);
    }
}

/* a row's way back: what the vectors of it need, and the sum of gradient * weight * normalised over it */
typedef struct {
    const void *x, *gradient, *stream;
    const float *weight;
    void *dx;
    float *dweight;
    __m512 inverse, mean, sum;
} norm_row;

T_INLINE void project(int x_kind, int y_kind, norm_row *row, long at, __mmask16 there) {
    const __m512 part = _mm512_mul_ps(_mm512_mul_ps(load(x_kind, row->x, at, there), row->inverse),
                                      load(y_kind, row->gradient, at, there));
    store(AR_WIDE, row->dweight, at, there, _mm512_add_ps(load(AR_WIDE, row->dweight, at, there), part));
    row->sum = _mm512_fmadd_ps(part, load(AR_WIDE, row->weight, at, there), row->sum);
}

T_INLINE void retract(int x_kind, int y_kind, const norm_row *row, long at, __mmask16 there) {
    const __m512 normalised = _mm512_mul_ps(load(x_kind, row->x, at, there), row->inverse);
    const __m512 scaled = _mm512_mul_ps(load(y_kind, row->gradient, at, there), load(AR_WIDE, row->weight, at, there));
    __m512 found = _mm512_mul_ps(_mm512_fnmadd_ps(normalised, row->mean, scaled), row->inverse);
    if (row->stream) found = _mm512_add_ps(found, load(x_kind, row->stream, at, there));
    store(x_kind, row->dx, at, there, found);
}

/* dx = (gradient w - n mean(gradient w n)) * inverse + stream, n = x * inverse */
T_INLINE void norm_backward_body(int x_kind, int y_kind, const ar_norm_work *work, long first, long last, float *dweight) {
    const int width = work->width;
    for (long at = first; at < last; ++at) {
        norm_row row = {
            row_of(x_kind, work->x, at, width), row_of(y_kind, work->gradient, at, width),
            work->stream ? row_of(x_kind, work->stream, at, width) : 0, work->weight,
            row_of(x_kind, work->dx, at, width), dweight,
            _mm512_set1_ps(work->inverse[at]), _mm512_setzero_ps(), _mm512_setzero_ps(),
        };
#define PROJECT(at, there) project(x_kind, y_kind, &row, at, there)
        VECTORS(0, width, PROJECT);
        row.mean = _mm512_set1_ps(lanes_sum(row.sum) / (float)width);
#define RETRACT(at, there) retract(x_kind, y_kind, &row, at, there)
        VECTORS(0, width, RETRACT);
    }
}

TARGET static void norm(const ar_norm_work *work, long first, long last) {
    if (work->x_kind == AR_WIDE && work->y_kind == AR_HALF) norm_body(AR_WIDE, AR_HALF, work, first, last);
    else if (work->x_kind == AR_WIDE) norm_body(AR_WIDE, AR_WIDE, work, first, last);
    else if (work->y_kind == AR_HALF) norm_body(AR_HALF, AR_HALF, work, first, last);
    else norm_body(AR_HALF, AR_WIDE, work, first, last);
}

TARGET static void norm_backward(const ar_norm_work *work, long first, long last, float *dweight) {
    if (work->x_kind == AR_WIDE && work->y_kind == AR_HALF) norm_backward_body(AR_WIDE, AR_HALF, work, first, last, dweight);
    else if (work->x_kind == AR_WIDE) norm_backward_body(AR_WIDE, AR_WIDE, work, first, last, dweight);
    else if (work->y_kind == AR_HALF) norm_backward_body(AR_HALF, AR_HALF, work, first, last, dweight);
    else norm_backward_body(AR_HALF, AR_WIDE, work, first, last, dweight);
}
