/* What is done to one row: sums, norms, activations. Compiled once for each level. */
#include "program.h"
#include "vector.h"

V_INLINE void add_body(float *x, const float *y, const float *z, int n) {
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 sum = v_load(x + i) + v_load(y + i);
        v_store(x + i, z ? sum + v_load(z + i) : sum);
    }
    for (; i < n; i++) x[i] = z ? (x[i] + y[i]) + z[i] : x[i] + y[i];
}

V_INLINE float sum_body(const float *x, int n, float shift, int squares) {
    v16 a = v_set(0), b = a, c = a, d = a, s = v_set(shift);
    int i = 0;
    for (; i + 64 <= n; i += 64) {
        v16 p = v_load(x + i) - s, q = v_load(x + i + 16) - s, r = v_load(x + i + 32) - s, t = v_load(x + i + 48) - s;
        a += squares ? p * p : p;
        b += squares ? q * q : q;
        c += squares ? r * r : r;
        d += squares ? t * t : t;
    }
    for (; i + 16 <= n; i += 16) {
        v16 p = v_load(x + i) - s;
        a += squares ? p * p : p;
    }
    float total = v_sum((a + b) + (c + d));
    for (; i < n; i++) {
        float p = x[i] - shift;
        total += squares ? p * p : p;
    }
    return total;
}

V_INLINE void norm_body(
    int kind, const float *x, const float *weight, const float *bias, float eps, float *out, int n) {
    float mean = kind == AR_NORM_LAYER ? sum_body(x, n, 0, 0) / (float)n : 0;
    float scale = 1.0f / sqrtf(sum_body(x, n, mean, 1) / (float)n + eps);
    v16 m = v_set(mean), s = v_set(scale);
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 y = (v_load(x + i) - m) * s * v_load(weight + i);
        v_store(out + i, bias ? y + v_load(bias + i) : y);
    }
    for (; i < n; i++) {
        float y = (x[i] - mean) * scale * weight[i];
        out[i] = bias ? y + bias[i] : y;
    }
}

V_INLINE v16 sigmoid(v16 x) { return v_set(1) / (v_set(1) + v_exp(-x)); }
V_INLINE v16 tanh_of(v16 x) { return v_set(1) - v_set(2) / (v_exp(x + x) + v_set(1)); }

/* erf to 1.5e-7: Abramowitz & Stegun, 7.1.26 */
V_INLINE v16 erf_of(v16 x) {
    v16 size = v_abs(x);
    v16 t = v_set(1) / (v_set(1) + v_set(0.3275911f) * size);
    v16 p = v_set(1.061405429f);
    p = p * t + v_set(-1.453152027f);
    p = p * t + v_set(1.421413741f);
    p = p * t + v_set(-0.284496736f);
    p = p * t + v_set(0.254829592f);
    v16 y = v_set(1) - p * t * v_exp(-(size * size));
    return (v16)((i16)y | ((i16)x & (int32_t)0x80000000));
}

V_INLINE v16 activate(int kind, v16 x) {
    switch (kind) {
        case AR_SILU: return x * sigmoid(x);
        case AR_GELU: return v_set(0.5f) * x * (v_set(1) + erf_of(x * v_set(0.70710678118654752f)));
        case AR_GELU_TANH:
            return v_set(0.5f) * x *
                   (v_set(1) + tanh_of(v_set(0.79788456080286536f) * (x + v_set(0.044715f) * x * x * x)));
        case AR_GELU_QUICK: return x * sigmoid(v_set(1.702f) * x);
        case AR_RELU: return (v16)((i16)x & (x > v_set(0)));
        default: return tanh_of(x);
    }
}

V_INLINE void activation_loop(int kind, const float *x, const float *times, float *out, int n) {
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        v16 y = activate(kind, v_load(x + i));
        v_store(out + i, times ? y * v_load(times + i) : y);
    }
    if (i < n) {
        float rest[16] = {0};
        memcpy(rest, x + i, (size_t)(n - i) * sizeof(float));
        v_store(rest, activate(kind, v_load(rest)));
        for (int j = 0; i < n; i++, j++) out[i] = times ? rest[j] * times[i] : rest[j];
    }
}

V_INLINE void activation_body(int kind, const float *x, const float *times, float *out, int n) {
    switch (kind) {
        case AR_SILU: activation_loop(AR_SILU, x, times, out, n); break;
        case AR_GELU: activation_loop(AR_GELU, x, times, out, n); break;
        case AR_GELU_TANH: activation_loop(AR_GELU_TANH, x, times, out, n); break;
        case AR_GELU_QUICK: activation_loop(AR_GELU_QUICK, x, times, out, n); break;
        case AR_RELU: activation_loop(AR_RELU, x, times, out, n); break;
        default: activation_loop(AR_TANH, x, times, out, n);
    }
}

TARGET static void add(float *x, const float *y, const float *z, int n) {
    if (z)
        add_body(x, y, z, n);
    else
        add_body(x, y, 0, n);
}

TARGET static void norm(int kind, const float *x, const float *weight, const float *bias, float eps, float *out, int n) {
    norm_body(kind, x, weight, bias, eps, out, n);
}

TARGET static void activation(int kind, const float *x, const float *times, float *out, int n) {
    activation_body(kind, x, times, out, n);
}
