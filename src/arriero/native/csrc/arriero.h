/* The plain C interface of Arriero's native library: products with dense and low-bit weights, and a team of threads.
 *
 * Nothing here knows Python or torch. All matrices are row-major; activations and results are float32.
 * Every row of a result has the same bits whatever the number of rows, the split into parts and the number of threads. */
#ifndef ARRIERO_H
#define ARRIERO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AR_EXPORT __attribute__((visibility("default")))

/* Raise it with every change of the structures or signatures that Python sees. */
#define AR_ABI 4

enum ar_kind { AR_FP32 = 0, AR_BF16 = 1, AR_INT8 = 2, AR_INT4 = 3 };
enum ar_scale_kind { AR_SCALE_FP32 = 0, AR_SCALE_BF16 = 1 };
enum ar_level { AR_PORTABLE = 0, AR_AVX2 = 1, AR_AVX512 = 2, AR_AVX512VNNI = 3 };

#define AR_TILE 16  /* output rows of a tile */
#define AR_GROUP 32 /* inputs that share a scale in the activations */

/* A weight [n, k] with y = x W^T + bias.
 *
 * Dense kinds: `codes` is the weight itself, row-major [n, k] (no copy is needed), `scales` is unused.
 * Low-bit kinds: tiles of 16 output rows, inputs padded to 32. One block of 64 bytes holds 16 rows x 4 inputs (int8)
 *   or 16 rows x 8 inputs (int4: low nibbles inputs 0-3, high nibbles inputs 4-7), codes with the offset 128 or 8.
 *   `scales` [tile][k / group][16] of `scale_kind`. `group` is a multiple of 32 that divides k, or k itself. */
typedef struct {
    int32_t kind;
    int32_t n, k, group;
    const void *codes;
    const void *scales;
    const float *bias; /* [n] or NULL */
    int32_t scale_kind;
    int32_t reserved;
} ar_matrix;

/* Bytes of scratch that ar_product wants for m rows; 0 where none. The memory should be aligned to 64 bytes. */
AR_EXPORT size_t ar_product_scratch(const ar_matrix *w, int m);
/* This part of bringing x [m, ldx] into the form of the product; all parts must be done before ar_product starts.
 * Matrices of the same k and the same class (int8 and int4; bf16; fp32) can share the scratch of one x when
 * `ar_same_scratch` says so. */
AR_EXPORT void ar_product_prepare(const ar_matrix *w, const float *x, int m, int ldx, void *scratch, int part, int parts);
AR_EXPORT int ar_same_scratch(const ar_matrix *a, const ar_matrix *b);
/* y[m, n] = x W^T + bias, the columns of this part. y may not overlap x or scratch. */
AR_EXPORT void ar_product(const ar_matrix *w, const float *x, int m, int ldx, const void *scratch, float *y, int ldy,
                          int part, int parts);
/* The whole of it by the team: prepare, wait, product. */
AR_EXPORT void ar_linear(const ar_matrix *w, const float *x, int m, int ldx, void *scratch, float *y, int ldy);

/* The team: body(arg, part, parts) once for every part at once; the caller is part 0. Calls from several threads wait
 * for one another; a call from inside a body runs alone, as body(arg, 0, 1). */
AR_EXPORT void ar_parallel(void (*body)(void *, int part, int parts), void *arg);
/* Threads of the team with the caller, 1 at first. Not from inside a body. */
AR_EXPORT void ar_set_threads(int n);
AR_EXPORT int ar_get_threads(void);

/* All parts of a body wait for one another. Zero it before ar_parallel; one may be used again and again. */
typedef struct {
    int32_t arrived;
    int32_t phase;
} ar_barrier;
AR_EXPORT void ar_barrier_wait(ar_barrier *barrier, int parts);

/* The instructions in use. ar_set_level takes at most what the processor has and gives the level that is in use then. */
AR_EXPORT int ar_level(void);
AR_EXPORT int ar_set_level(int level);
AR_EXPORT int ar_has_bf16(void); /* dense bf16 products round activations to bf16 (AVX512_BF16) */
AR_EXPORT int ar_abi(void);
AR_EXPORT const char *ar_sources(void); /* hash of the sources that the library was built from */

#ifdef __cplusplus
}
#endif
#endif
