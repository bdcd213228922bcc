/* Rows and attention for any processor. */
#define TARGET 
#define MOST_ROWS 2
#define VECTORS 1
#define SHUFFLES 0

#include "norms_kernel.h"
#include "attention_kernel.h"

const ar_vector_kernels ar_vectors_portable = VECTOR_KERNELS;
