/* Facts of a text in UTF-8: counters, repetition, normalised form, MinHash, lines. Plain C; nothing here knows Python.
 *
 * Every function gives the same result on every processor, and the same as arriero.data.facts.fallback in Python.
 * Text should be valid UTF-8; any other bytes are safe, but their figures mean little. Time and memory are linear in the
 * text. */
#ifndef AR_TEXT_H
#define AR_TEXT_H

#include "arriero.h"

/* of a character; made by tools/make_text_tables.py */
enum {
    T_ALPHA = 1 << 0, T_UPPER = 1 << 1, T_DIGIT = 1 << 2, T_ALNUM = 1 << 3, T_PUNCT = 1 << 4, T_SYMBOL = 1 << 5,
    T_SPACE = 1 << 6, T_BREAK = 1 << 7, T_MARK = 1 << 8, T_TERMINAL = 1 << 9, T_SENTENCE = 1 << 10,
    T_UNSPACED = 1 << 11, T_PREFIX = 1 << 12, T_SUFFIX = 1 << 13, T_EN_ALPHA = 1 << 14, T_EN_LOWER = 1 << 15,
    T_EN_UPPER = 1 << 16, T_QUOTE = 1 << 17, T_ICON = 1 << 18, T_BEFORE_DOT = 1 << 19, T_CURRENCY = 1 << 20,
    T_CONTROL = 1 << 21, T_ACTIVE = 1 << 22, T_COMBINING = 1 << 23, T_ASCII_DIGIT = 1 << 24,
};

#define T_UNIT (1u << 31)

typedef struct {
    const uint16_t *pages;          /* [8704]: a page of 128 characters each; page 0 is ASCII */
    const uint32_t *flags;          /* [pages, 128] */
    const int32_t *fold, *lower;    /* [pages, 128]: 0 itself, -1 nothing, else the character in its place */
    const uint64_t *special_keys;   /* hash table of exceptions and units by their text's hash; 0: empty */
    const uint32_t *special_values; /* words | length of the first << 8 | of the second << 16, T_UNIT */
    const uint64_t *special_filter; /* [1024]: bit key >> 48 is set where a key may be there */
    uint64_t special_mask;
    uint64_t special_bytes;         /* of the longest of them */
} ar_text_tables;

typedef struct {
    const ar_text_tables *tables;
    const uint64_t *stop_words; /* [n_stop_words]: hashes */
    const uint64_t *shingle_factors; /* [shingle_words] */
    const uint64_t *factors, *offsets; /* [n_hashes] */
    int32_t n_stop_words, by_space, shingle_words, n_hashes;
} ar_text_settings;

/* counters, in this order; figures.py says what becomes of them */
#define AR_TEXT_COUNTERS(X) \
    X(bytes) X(characters) X(words) X(plain_words) X(plain_word_characters) X(tokens) X(token_characters) \
    X(longest_token) X(lines) X(filled_lines) X(paragraphs) X(sentences) X(median_word_length) X(alphabetic_words) \
    X(upper_tokens) X(unspaced_words) X(unique_words) X(entropy) X(stop_words_distinct) X(stop_words_total) \
    X(encoded_tokens) X(letters) X(upper) X(digits) X(alphanumeric) X(punctuation) X(symbols) X(whitespace) \
    X(parentheses) X(non_ascii) X(control_characters) X(longest_run) X(hashes) X(ellipses) X(curly_brackets) \
    X(lorem_ipsum) X(urls) X(url_characters) X(xml_header) X(bullet_lines) X(ellipsis_lines) X(terminal_lines) \
    X(short_lines) X(newlines) X(long_lines) X(longest_line) X(upper_lines) X(numeric_lines) X(one_word_lines) \
    X(javascript_lines) X(policy_lines) X(c4_lines) X(c4_sentences) X(c4_curly_lines) X(c4_lorem_lines) \
    X(c4_open_lines) X(c4_open_sentences) X(c4_open_curly_lines) X(c4_open_lorem_lines) X(pieces) \
    X(duplicate_lines) X(duplicate_line_characters) X(duplicate_paragraphs) X(duplicate_paragraph_characters) \
    X(repeated_line_characters) X(top_2gram) X(top_3gram) X(top_4gram) X(duplicate_5grams) X(duplicate_6grams) \
    X(duplicate_7grams) X(duplicate_8grams) X(duplicate_9grams) X(duplicate_10grams)

#define AR_TEXT_ENUM(name) AR_C_##name,
enum { AR_TEXT_COUNTERS(AR_TEXT_ENUM) AR_TEXT_N_COUNTERS };

/* what is to be said of a line or a paragraph; see lines.py */
enum {
    L_END_MARK = 1, L_ELLIPSIS = 2, L_TERMINAL = 4, L_BULLET = 8, L_CURLY = 16, L_LOREM = 32, L_JAVASCRIPT = 64,
    L_POLICY = 128, L_LONG_WORD = 256, L_C4 = 512, L_C4_OPEN = 1024,
};

typedef struct {
    int64_t start, end; /* characters */
    uint64_t hash;      /* of the line as CCNet normalises it; 0 where nothing is left of it */
    int32_t tokens, longest_token, sentences, letters, upper, digits;
    uint32_t flags;
    int32_t c4_sentences; /* with the marks of citations taken out */
} ar_text_line;

/* memory that the library gives and ar_text_free takes back */
typedef struct {
    void *data;
    size_t count;
} ar_text_result;

/* 0, or -1 where there is no memory. counters [AR_TEXT_N_COUNTERS]; signature [n_hashes]; normal: bytes. */
AR_EXPORT int ar_text_measure(const ar_text_settings *settings, const uint8_t *text, size_t n, int64_t *counters,
                              uint32_t *signature, ar_text_result *normal);
AR_EXPORT int ar_text_normalise(const ar_text_settings *settings, const uint8_t *text, size_t n, ar_text_result *normal);
/* hashes of the shingles, in order, with repetitions: uint64 */
AR_EXPORT int ar_text_shingles(const ar_text_settings *settings, const uint8_t *text, size_t n, ar_text_result *hashes);
AR_EXPORT int ar_text_signature(const ar_text_settings *settings, const uint8_t *text, size_t n, uint32_t *signature);
/* stretches between line feeds; with `paragraphs` those between two or more, empty ones left out: ar_text_line */
AR_EXPORT int ar_text_lines(const ar_text_settings *settings, const uint8_t *text, size_t n, int paragraphs,
                            ar_text_result *lines);
/* words as the facts count them: pairs of uint64, start and end in bytes */
AR_EXPORT int ar_text_words(const ar_text_settings *settings, const uint8_t *text, size_t n, ar_text_result *words);
AR_EXPORT void ar_text_free(ar_text_result *result);
AR_EXPORT const char *ar_text_counter_names(void); /* "bytes,characters,..." */

/* 1 where the bytes are valid UTF-8, as Python's decoder takes it */
AR_EXPORT int ar_text_is_utf8(const uint8_t *text, size_t n);
/* an upper bound of how deep a page's tags nest: arriero.data.extract.budget.quick_depth. nests [32768]: 1 where the
 * first three letters of a name, 5 bits each, are of a tag that nests. -1 where there is no memory. */
AR_EXPORT int64_t ar_page_depth(const uint8_t *page, size_t n, const uint8_t *nests);

/* a fastText model that tells languages; NULL where the file is none that this can read, or there is no memory */
typedef struct ar_language_model ar_language_model;
AR_EXPORT ar_language_model *ar_language_load(const uint8_t *file, size_t n);
AR_EXPORT void ar_language_free(ar_language_model *model);
/* the label of a line and its probability; -1 for none, -2 where there is no memory */
AR_EXPORT int32_t ar_language_of(const ar_language_model *model, const uint8_t *text, size_t n, float *score);
AR_EXPORT const char *ar_language_label(const ar_language_model *model, int32_t label);

#endif
