/* Rows and attention for AVX-512. */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define MOST_ROWS 6
#define VECTORS 4
#define SHUFFLES 1

#include "norms_kernel.h"
#include "attention_kernel.h"

const ar_vector_kernels ar_vectors_avx512 = VECTOR_KERNELS;
#endif
