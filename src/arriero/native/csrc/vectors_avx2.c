/* Rows and attention for AVX2 with FMA. */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,fma")))
#define MOST_ROWS 2
#define VECTORS 2
#define SHUFFLES 0

#include "norms_kernel.h"
#include "attention_kernel.h"

const ar_vector_kernels ar_vectors_avx2 = VECTOR_KERNELS;
#endif
