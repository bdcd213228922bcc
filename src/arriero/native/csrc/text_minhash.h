/* Minimum hashes of shingles: the least (x * factor + offset) mod 2^64 of each factor and offset, whose upper half is
 * the signature (multiply-shift: Dietzfelbinger et al. 1997). */
#ifndef AR_TEXT_MINHASH_H
#define AR_TEXT_MINHASH_H

#include "text.h"

#define AR_MINHASH_BLOCK 128

typedef struct {
    uint64_t *factors, *offsets, *lowest; /* [padded to 16] */
    int32_t padded;
} ar_minhash;

int ar_minhash_begin(ar_minhash *minhash, const ar_text_settings *settings); /* 0: no memory */
void ar_minhash_update(ar_minhash *minhash, const uint64_t *shingles, int count);
void ar_minhash_end(ar_minhash *minhash);

#endif
