/* The kernels of training for AVX-512 that also rounds to bfloat16. */
#if defined(__x86_64__)
#define HAS_BF16 1
#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

#include "training_vectors.h"

#include "training_gate.h"
#include "training_loss.h"
#include "training_norm.h"
#include "training_sums.h"

const ar_training_kernels ar_training_avx512bf16 = {gate, gate_backward, norm, norm_backward, loss, sum};
#endif
