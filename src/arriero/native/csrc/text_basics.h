/* What the files of text_*.c share: reading characters, hashes, arrays and sets that grow. */
#ifndef AR_TEXT_BASICS_H
#define AR_TEXT_BASICS_H

#include <stdlib.h>
#include <string.h>

#include "text.h"

#define T_INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef struct {
    const uint8_t *p, *end;
} span;

/* the character at p < end beyond ASCII, and how many bytes it has */
T_INLINE uint32_t wide_character(const uint8_t *p, const uint8_t *end, int *bytes) {
    const size_t left = (size_t)(end - p);
    const uint32_t a = p[0];
#define REST(i) ((p[i] & 0xc0) == 0x80)
    if (a >= 0xc2 && a < 0xe0 && left > 1 && REST(1)) {
        *bytes = 2;
        return (a & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (a >= 0xe0 && a < 0xf0 && left > 2 && REST(1) && REST(2)) {
        const uint32_t c = (a & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
        if (c >= 0x800 && (c < 0xd800 || c > 0xdfff)) {
            *bytes = 3;
            return c;
        }
    }
    if (a >= 0xf0 && a < 0xf5 && left > 3 && REST(1) && REST(2) && REST(3)) {
        const uint32_t c =
            (a & 7) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
        if (c >= 0x10000 && c < 0x110000) {
            *bytes = 4;
            return c;
        }
    }
#undef REST
    *bytes = 1;
    return 0xfffd;
}

T_INLINE uint32_t character(const uint8_t *p, const uint8_t *end, int *bytes) {
    if (LIKELY(*p < 0x80)) {
        *bytes = 1;
        return *p;
    }
    return wide_character(p, end, bytes);
}

T_INLINE size_t place(const ar_text_tables *t, uint32_t c) { return (size_t)t->pages[c >> 7] * 128 + (c & 127); }
T_INLINE uint32_t flags_of(const ar_text_tables *t, uint32_t c) { return t->flags[c < 128 ? c : place(t, c)]; }

T_INLINE int put(uint8_t *to, uint32_t c) {
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (uint8_t)(0xc0 | c >> 6);
        to[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (uint8_t)(0xe0 | c >> 12);
        to[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | c >> 18);
    to[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* SplitMix64's finaliser: a bijection in which every bit moves every other */
T_INLINE uint64_t scramble(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

T_INLINE uint64_t little_endian(uint64_t x) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(x);
#else
    return x;
#endif
}

T_INLINE uint64_t load(const uint8_t *p) {
    uint64_t w;
    memcpy(&w, p, 8);
    return little_endian(w);
}

T_INLINE uint64_t hash_step(uint64_t h, uint64_t w) {
    h = (h ^ w) * 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

T_INLINE uint64_t hash_end(uint64_t h, size_t n) { return scramble(h ^ (uint64_t)n * 0x9e3779b97f4a7c15u); }

/* of n bytes at p; what lies before `end` may be read. Eight bytes at a time, zeros behind the last, then the length. */
T_INLINE uint64_t hash_of(const uint8_t *p, size_t n, const uint8_t *end) {
    const size_t size = n;
    uint64_t h = 0, w = 0;
    for (; n >= 8; n -= 8, p += 8) h = hash_step(h, load(p));
    if (n) {
        if (LIKELY((size_t)(end - p) >= 8)) w = load(p) & (~(uint64_t)0 >> (64 - 8 * n));
        else
            for (size_t i = 0; i < n; ++i) w |= (uint64_t)p[i] << (8 * i);
        h = hash_step(h, w);
    }
    return hash_end(h, size);
}

/* room for one more in an array that doubles; 0 where there is no memory */
T_INLINE int room(void **data, size_t count, size_t *capacity, size_t size) {
    if (LIKELY(count < *capacity)) return 1;
    const size_t wanted = *capacity ? *capacity * 2 : 256;
    void *more = realloc(*data, wanted * size);
    if (!more) return 0;
    *data = more;
    *capacity = wanted;
    return 1;
}

/* numbers for different 64-bit keys, from 0 in the order in which they come, and how often each came */
typedef struct {
    uint32_t *slots; /* number + 1; 0: empty */
    size_t mask;
    uint64_t *keys;
    uint32_t *counts;
    size_t count, capacity;
} key_set;

/* the number of `key`, whose bits are already mixed; UINT32_MAX where there is no memory */
uint32_t ar_key_number(key_set *set, uint64_t key);
/* its number, or UINT32_MAX where it is not there */
uint32_t ar_key_find(const key_set *set, uint64_t key);
void ar_key_free(key_set *set);

typedef struct {
    uint32_t *ids, *lengths;
    size_t count, capacity;
    key_set different;
} word_list;

/* what a pass over lines counts; text_words.c */
typedef struct {
    const ar_text_settings *settings;
    const ar_text_tables *tables;
    const uint8_t *text, *end; /* of the whole memory that may be read */
    word_list *words;          /* NULL: sentences alone */
    struct character_counts *characters; /* NULL: they are not counted */
    ar_text_result *bounds;    /* NULL, or where each word's bounds go */
    size_t bounds_capacity;
    int failed;
    int64_t plain, plain_characters, alphabetic, unspaced;
    int64_t lengths[256];
    int period, started; /* of the sentence */
    int64_t breaks;
} word_pass;

typedef struct {
    int64_t tokens, token_characters, longest, letters, upper, digits, upper_tokens, urls, url_characters, sentences;
} line_counts;

/* what is counted of characters in tokens; NULL in the pass: nothing is */
typedef struct character_counts {
    int64_t ascii[128];    /* of tokens that are not letters alone */
    int64_t alphanumeric, punctuation, symbols, control, ellipses; /* beyond ASCII, likewise; all ellipses */
    int64_t encoded, longest_run;
} character_counts;

/* Go through a line: its tokens and words. `whole`: blank ends make sentences as well (spaCy's reading). */
void ar_text_line_words(word_pass *pass, span line, int whole, line_counts *counts);

enum { COOKIE, TERMS, PRIVACY, LOREM, JAVASCRIPT, PHRASES };

/* where the phrases of C4's rules stand: each is looked for once, however many lines there are */
typedef struct {
    uint8_t *lower; /* the text with ASCII letters in lower case */
    size_t size;
    size_t next[PHRASES];
} phrase_finder;

int ar_phrases_begin(phrase_finder *finder, span text);
void ar_phrases_from(phrase_finder *finder, int phrase, size_t from); /* look for it from there on */
/* L_LOREM, L_JAVASCRIPT, L_POLICY, L_CURLY of bytes from .. to; calls must be in order */
uint32_t ar_phrases(phrase_finder *finder, size_t from, size_t to);

typedef struct {
    uint8_t *buffer; /* for lines with marks of citations */
    size_t capacity;
} c4_scratch;

/* how a line without blank ends begins and ends: L_END_MARK, L_ELLIPSIS, L_TERMINAL, L_BULLET */
uint32_t ar_text_ends(const ar_text_tables *tables, span line);
/* C4's verdict of such a line: flags with L_C4 and L_C4_OPEN; *sentences becomes the number in it, citations out */
uint32_t ar_text_c4(word_pass *pass, c4_scratch *scratch, span line, uint32_t flags, const line_counts *counts,
                    int64_t *sentences);

int ar_text_repetition(word_list *words, int64_t *counters);
int ar_text_pieces(const ar_text_tables *tables, span text, int64_t *counters);
int ar_text_sign(const ar_text_settings *settings, span normal, uint32_t *signature);
span ar_text_strip(const ar_text_tables *tables, span line);
/* a line of many: the end of [p, end) or the first line feed */
static inline const uint8_t *line_end(const uint8_t *p, const uint8_t *end) {
    const uint8_t *found = memchr(p, '\n', (size_t)(end - p));
    return found ? found : end;
}
/* how many characters */
static inline int64_t characters_of(span text) {
    int64_t n = 0;
    for (const uint8_t *p = text.p; p < text.end; ++p) n += (*p & 0xc0) != 0x80;
    return n;
}

#endif
