/* The gated feed-forward layer's inner product silu(gate) * up, and its gradients. */

/* 1 / (1 + e^-x) */
T_INLINE __m512 sigmoid_of(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

T_INLINE void gate_vector(int kind, const ar_gate_work *work, long at, __mmask16 there) {
    const __m512 gate = load(kind, work->gate, at, there), up = load(kind, work->up, at, there);
    store(kind, work->inner, at, there, _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid_of(gate)), up));
}

/* d silu(g) = s (1 + g (1 - s)), s = sigmoid(g). `dup` may be `gradient`. */
T_INLINE void gate_backward_vector(int kind, int again, const ar_gate_work *work, long at, __mmask16 there) {
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 gate = load(kind, work->gate, at, there), up = load(kind, work->up, at, there);
    const __m512 gradient = load(kind, work->gradient, at, there);
    const __m512 share = sigmoid_of(gate), silu = _mm512_mul_ps(gate, share);
    const __m512 slope = _mm512_mul_ps(share, _mm512_fmadd_ps(gate, _mm512_sub_ps(one, share), one));
    if (again) store(kind, work->inner, at, there, _mm512_mul_ps(silu, up));
    store(kind, work->dgate, at, there, _mm512_mul_ps(_mm512_mul_ps(gradient, up), slope));
    store(kind, work->dup, at, there, _mm512_mul_ps(gradient, silu));
}

T_INLINE void gate_body(int kind, const ar_gate_work *work, long first, long last) {
#define GATE(at, there) gate_vector(kind, work, at, there)
    VECTORS(first, last, GATE);
}

T_INLINE void gate_backward_body(int kind, int again, const ar_gate_work *work, long first, long last) {
#define GATE_BACKWARD(at, there) gate_backward_vector(kind, again, work, at, there)
    VECTORS(first, last, GATE_BACKWARD);
}

TARGET static void gate(const ar_gate_work *work, long first, long last) {
    if (work->kind == AR_HALF) gate_body(AR_HALF, work, first, last);
    else gate_body(AR_WIDE, work, first, last);
}

TARGET static void gate_backward(const ar_gate_work *work, long first, long last) {
    const int again = work->inner != 0;
    if (work->kind == AR_HALF && again) gate_backward_body(AR_HALF, 1, work, first, last);
    else if (work->kind == AR_HALF) gate_backward_body(AR_HALF, 0, work, first, last);
    else gate_backward_body(AR_WIDE, again, work, first, last);
}
