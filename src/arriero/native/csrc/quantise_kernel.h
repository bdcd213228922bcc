/* Activations to int8 codes with a scale for each 32 inputs; included once by the file of each level, which defines
 * TARGET, largest_bits (of 32 magnitudes) and round_group (writes 32 codes, gives their sum).
 *
 * scale = largest / 127, code = round-half-even(x / scale). Groups whose largest magnitude is under 1e-30 become zero;
 * groups with a value that is not finite get the scale NaN, so that whatever is made of them is NaN as well. */

AR_INLINE float group_scale(uint32_t bits, float *inverse) {
    const union {
        uint32_t bits;
        float value;
    } largest = {bits};
    *inverse = 0.0f;
    if (bits >= 0x7f800000u) return __builtin_nanf(""); /* infinity and NaN */
    if (largest.value < 1e-30f) return 0.0f;
    const float scale = largest.value / 127.0f;
    *inverse = 1.0f / scale;
    return scale;
}

TARGET static void quantise(const float *x, int k, int offset, int first, int last, int8_t *q, float *scales,
                            int32_t *shifts) {
    float padded[AR_GROUP];
    for (int group = first; group < last; ++group, q += AR_GROUP) {
        const float *from = x + (size_t)group * AR_GROUP;
        const int there = k - group * AR_GROUP;
        if (there < AR_GROUP) {
            for (int i = 0; i < AR_GROUP; ++i) padded[i] = i < there ? from[i] : 0.0f;
            from = padded;
        }
        float inverse;
        *scales++ = group_scale(largest_bits(from), &inverse);
        if (inverse > 0.0f) {
            *shifts++ = -offset * round_group(from, inverse, q);
        } else { /* zeros, also in the place of what is not finite: converting that to integers is undefined */
            for (int i = 0; i < AR_GROUP; ++i) q[i] = 0;
            *shifts++ = 0;
        }
    }
}
