/* Between the pass over a line (text_words.c) and the rules that cut a chunk of it into words (text_peel.c). */
#ifndef AR_TEXT_PEEL_H
#define AR_TEXT_PEEL_H

#include "text_basics.h"

#define MOST 1024 /* characters of a chunk; longer ones are one word, whatever is in them */

/* what lies between white space, without characters of scripts that have none */
typedef struct {
    uint32_t c[MOST + 1], flags[MOST + 1];
    const uint8_t *at[MOST + 1];
    int n;
} chunk;

enum { OTHER = 0, PUNCTUATION = 1, SENTENCE_END = 2 };

T_INLINE void sentence_token(word_pass *pass, int kind) {
    pass->started = 1;
    if (kind == SENTENCE_END) {
        pass->period = 1;
    } else if (pass->period && kind == OTHER) {
        pass->breaks++;
        pass->period = 0;
    }
}

/* what one character, or the flags that all characters of a word have, mean to the rule for sentences */
T_INLINE int kind_of_word(int64_t characters, uint32_t all) {
    return characters == 1 && (all & T_SENTENCE) ? SENTENCE_END : all & T_PUNCT ? PUNCTUATION : OTHER;
}

/* what is known of a text by its hash: 0, or words and lengths of an exception, T_UNIT */
T_INLINE uint32_t special_of(const ar_text_tables *t, uint64_t key) {
    if (LIKELY(!(t->special_filter[key >> 54 & 1023] >> (key >> 48 & 63) & 1))) return 0;
    for (uint64_t at = key & t->special_mask; t->special_keys[at]; at = (at + 1) & t->special_mask)
        if (t->special_keys[at] == key) return t->special_values[at];
    return 0;
}

/* a word of the list; flags that any and that all of its characters have */
void ar_text_add_word(
    word_pass *pass, const uint8_t *from, const uint8_t *to, int64_t characters, uint32_t any, uint32_t all);
/* cut characters 0 .. k->n into words */
void ar_text_peel(word_pass *pass, const chunk *k);
/* the words of an exception, which was found by its hash */
void ar_text_exception(word_pass *pass, const chunk *k, int from, int to, int found);

#endif
