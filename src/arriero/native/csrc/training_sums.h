/* The sum of two dtypes. */

TARGET static void sum(const ar_sum_work *work, long first, long last) {
#define SUM(at, there) \
    store(AR_WIDE, work->sum, at, there, _mm512_add_ps(load(AR_WIDE, work->a, at, there), load(AR_HALF, work->b, at, there)))
    VECTORS(first, last, SUM);
}
