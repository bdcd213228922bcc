/* Which instructions this processor has, and which are in use. */
#include "kernels.h"

static int in_use = -1;

static int highest(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx512 && __builtin_cpu_supports("avx512vnni")) return AR_AVX512VNNI;
    if (avx512) return AR_AVX512;
    if (avx2) return AR_AVX2;
#endif
    return AR_PORTABLE;
}

int ar_set_level(int level) {
    const int most = highest();
    in_use = level < AR_PORTABLE ? AR_PORTABLE : level > most ? most : level;
    return in_use;
}

int ar_level(void) { return in_use < 0 ? ar_set_level(AR_AVX512VNNI) : in_use; }

int ar_has_bf16(void) {
#if defined(__x86_64__)
    return ar_level() >= AR_AVX512 && __builtin_cpu_supports("avx512bf16");
#else
    return 0;
#endif
}

const ar_kernels *ar_kernels_now(void) {
#if defined(__x86_64__)
    switch (ar_level()) {
    case AR_AVX512VNNI: return &ar_kernels_avx512vnni;
    case AR_AVX512: return &ar_kernels_avx512;
    case AR_AVX2: return &ar_kernels_avx2;
    default: break;
    }
#endif
    return &ar_kernels_portable;
}

int ar_abi(void) { return AR_ABI; }

#ifndef AR_SOURCES
#define AR_SOURCES "unknown"
#endif
const char *ar_sources(void) { return AR_SOURCES; }
