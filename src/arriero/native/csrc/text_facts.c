/* The facts of a text: what its characters, its lines and its words give. */
#include "text_basics.h"

/* ------------------------------------------------------------------------------------------------ characters */

static void add_flags(int64_t *c, uint32_t flags, int64_t n) {
    c[AR_C_alphanumeric] += flags & T_ALNUM ? n : 0;
    c[AR_C_punctuation] += flags & T_PUNCT ? n : 0;
    c[AR_C_symbols] += flags & T_SYMBOL ? n : 0;
    c[AR_C_control_characters] += flags & T_CONTROL ? n : 0;
}

typedef struct {
    int64_t starts, ascii, feeds, spaces, runs; /* first bytes of characters; ASCII: all, line feeds, white space, runs */
} byte_counts;

#define IS_SPACE(c) (((c) == ' ') | ((uint8_t)((c) - 9) < 5) | ((uint8_t)((c) - 28) < 4)) /* in ASCII */
#define IS_GAP(c) (IS_SPACE(c) & ((c) != '\n'))

/* at most 255 bytes with two before them, so that the compiler can count in bytes */
static void count_block(const uint8_t *p, int n, byte_counts *counts) {
    uint8_t starts = 0, ascii = 0, feeds = 0, spaces = 0, runs = 0;
    for (int i = 0; i < n; ++i) {
        const uint8_t a = p[i - 2], b = p[i - 1], c = p[i];
        starts += (c & 0xc0) != 0x80;
        ascii += c < 0x80;
        feeds += c == '\n';
        spaces += IS_SPACE(c);
        /* what white space costs: a run of line feeds one, more than one of the others one */
        runs += ((c == '\n') & (b != '\n')) | (IS_GAP(c) & IS_GAP(b) & !IS_GAP(a));
    }
    counts->starts += starts;
    counts->ascii += ascii;
    counts->feeds += feeds;
    counts->spaces += spaces;
    counts->runs += runs;
}

static byte_counts count_bytes(span text) {
    byte_counts counts = {0};
    uint8_t first[4] = {'x', 'x'};
    const ptrdiff_t n = text.end - text.p;
    memcpy(first + 2, text.p, (size_t)(n < 2 ? n : 2));
    count_block(first + 2, n < 2 ? (int)n : 2, &counts);
    for (const uint8_t *p = text.p + 2; p < text.end; p += 240)
        count_block(p, text.end - p < 240 ? (int)(text.end - p) : 240, &counts);
    return counts;
}

/* after the lines, from which letters, digits and tokens are known; `found`: of tokens that are not letters alone */
static void count_characters(const ar_text_tables *tables, span text, const character_counts *found, int64_t *c) {
    for (int i = 0; i < 128; ++i) add_flags(c, tables->flags[i], found->ascii[i]);
    const byte_counts bytes = count_bytes(text);
    c[AR_C_characters] = bytes.starts;
    c[AR_C_non_ascii] = bytes.starts - bytes.ascii;
    c[AR_C_newlines] = bytes.feeds;
    c[AR_C_whitespace] = c[AR_C_characters] - c[AR_C_token_characters];
    c[AR_C_alphanumeric] += found->alphanumeric;
    c[AR_C_punctuation] += found->punctuation;
    c[AR_C_symbols] += found->symbols;
    c[AR_C_control_characters] += found->control;
    c[AR_C_hashes] = found->ascii['#'];
    c[AR_C_ellipses] = found->ellipses;
    c[AR_C_curly_brackets] = found->ascii['{'] + found->ascii['}'];
    c[AR_C_parentheses] = c[AR_C_curly_brackets] + found->ascii['('] + found->ascii[')'] + found->ascii['['] +
                          found->ascii[']'] + found->ascii['<'] + found->ascii['>'];
    c[AR_C_encoded_tokens] = found->encoded + bytes.runs + c[AR_C_whitespace] - bytes.spaces;
    c[AR_C_longest_run] = found->longest_run;
}

static int has_xml_header(span text) {
    static const char header[] = "<?xml version=";
    const size_t size = sizeof header - 1;
    int64_t characters = 0;
    for (const uint8_t *p = text.p; p < text.end && (size_t)(text.end - p) >= size; ++p) {
        if ((*p & 0xc0) != 0x80 && ++characters + (int64_t)size > 101) return 0;
        if (!memcmp(p, header, size)) return 1;
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ lines */

typedef struct {
    word_pass pass;
    c4_scratch scratch;
    phrase_finder finder;
    int64_t *counters;
} walk;

static void count_c4(int64_t *c, uint32_t flags, int64_t tokens, int64_t sentences) {
    if ((flags & L_LONG_WORD) || tokens < 3) return;
    const int curly = (flags & L_CURLY) && !(flags & L_JAVASCRIPT);
    c[AR_C_c4_open_lorem_lines] += (flags & L_LOREM) != 0;
    c[AR_C_c4_open_curly_lines] += curly;
    c[AR_C_c4_open_lines] += (flags & L_C4_OPEN) != 0;
    c[AR_C_c4_open_sentences] += flags & L_C4_OPEN ? sentences : 0;
    if (!(flags & L_END_MARK)) return;
    c[AR_C_c4_lorem_lines] += (flags & L_LOREM) != 0;
    c[AR_C_c4_curly_lines] += curly;
    c[AR_C_c4_lines] += (flags & L_C4) != 0;
    c[AR_C_c4_sentences] += flags & L_C4 ? sentences : 0;
}

/* a line as str.splitlines cuts it */
static void count_line(walk *w, span line, line_counts *sum) {
    int64_t *c = w->counters;
    const span bare = ar_text_strip(w->pass.tables, line);
    line_counts counts = {0};
    ar_text_line_words(&w->pass, bare, 0, &counts);
    uint32_t flags = ar_text_ends(w->pass.tables, bare) | (counts.longest > 1000 ? L_LONG_WORD : 0);
    flags |= ar_phrases(&w->finder, (size_t)(bare.p - w->pass.text), (size_t)(bare.end - w->pass.text));
    c[AR_C_lines]++;
    c[AR_C_bullet_lines] += (flags & L_BULLET) != 0;
    c[AR_C_ellipsis_lines] += (flags & L_ELLIPSIS) != 0;
    c[AR_C_javascript_lines] += (flags & L_JAVASCRIPT) != 0;
    c[AR_C_policy_lines] += (flags & L_POLICY) != 0;
    c[AR_C_sentences] += counts.sentences;
    c[AR_C_tokens] += counts.tokens;
    c[AR_C_token_characters] += counts.token_characters;
    c[AR_C_letters] += counts.letters;
    c[AR_C_upper] += counts.upper;
    c[AR_C_digits] += counts.digits;
    if (counts.longest > c[AR_C_longest_token]) c[AR_C_longest_token] = counts.longest;
    c[AR_C_upper_tokens] += counts.upper_tokens;
    c[AR_C_urls] += counts.urls;
    c[AR_C_url_characters] += counts.url_characters;
    int64_t sentences = 0;
    flags = ar_text_c4(&w->pass, &w->scratch, bare, flags, &counts, &sentences);
    count_c4(c, flags, counts.tokens, sentences);
    sum->tokens += counts.tokens;
    sum->letters += counts.letters;
    sum->upper += counts.upper;
    sum->digits += counts.digits;
}

/* the first character at which a line ends, other than a line feed, in a stretch without those; or its end */
static const uint8_t *other_break(const ar_text_tables *tables, span line, int *bytes) {
    for (const uint8_t *p = line.p; p < line.end; p += *bytes) {
        const uint32_t c = character(p, line.end, bytes);
        if (UNLIKELY(flags_of(tables, c) & T_BREAK)) return p;
    }
    *bytes = 0;
    return line.end;
}

/* ASCII alone, and no control characters: nothing in it ends a line */
static int surely_one_line(span line) {
    uint8_t all = 0, low = 0;
    for (const uint8_t *p = line.p; p < line.end; ++p) {
        all |= *p;
        low |= (uint8_t)(*p - 0x0a) < 0x15;
    }
    return all < 0x80 && !low;
}

/* a stretch between line feeds; `feed`: one follows */
static void count_stretch(walk *w, span stretch, int feed) {
    int64_t *c = w->counters;
    line_counts sum = {0};
    const int64_t characters = characters_of(stretch);
    if (surely_one_line(stretch)) {
        if (feed || stretch.p < stretch.end) count_line(w, stretch, &sum);
    } else {
        span rest = stretch;
        while (rest.p < rest.end || (feed && rest.p == stretch.p)) {
            int bytes;
            const uint8_t *stop = other_break(w->pass.tables, rest, &bytes);
            count_line(w, (span){rest.p, stop}, &sum);
            const int carriage = bytes == 1 && *stop == '\r';
            rest.p = stop + bytes;
            if (rest.p < rest.end || !feed) continue;
            if (bytes && !carriage) count_line(w, (span){rest.p, rest.p}, &sum); /* an empty one before the feed */
            break;
        }
    }
    if (characters > c[AR_C_longest_line]) c[AR_C_longest_line] = characters;
    c[AR_C_long_lines] += characters >= 200;
    if (!sum.tokens) return;
    c[AR_C_filled_lines]++;
    c[AR_C_short_lines] += characters <= 30;
    c[AR_C_terminal_lines] += (ar_text_ends(w->pass.tables, stretch) & L_TERMINAL) != 0;
    c[AR_C_upper_lines] += 2 * sum.upper > sum.letters;
    c[AR_C_numeric_lines] += sum.digits > 0 && !sum.letters;
    c[AR_C_one_word_lines] += sum.tokens == 1;
}

static int count_lines(walk *w, span text) {
    const uint8_t *p = text.p;
    while (p <= text.end && !w->pass.failed) {
        const uint8_t *stop = line_end(p, text.end);
        count_stretch(w, (span){p, stop}, stop < text.end);
        p = stop + 1;
    }
    return !w->pass.failed;
}

/* ------------------------------------------------------------------------------------------------ words */

/* log2 of x > 0 with 20 bits behind the point, by squaring: the same everywhere */
static uint64_t log2_fixed(uint64_t x) {
    const int whole = 63 - __builtin_clzll(x);
    uint64_t y = whole > 31 ? x >> (whole - 31) : x << (31 - whole), result = (uint64_t)whole;
    for (int i = 0; i < 20; ++i) {
        y = y * y >> 31;
        result = result << 1 | y >> 32;
        y >>= y >> 32;
    }
    return result;
}

static void count_words(const walk *w, const word_list *words) {
    int64_t *c = w->counters, seen = 0, spectrum[64] = {0};
    const key_set *set = &words->different;
    c[AR_C_words] = (int64_t)words->count;
    c[AR_C_plain_words] = w->pass.plain;
    c[AR_C_plain_word_characters] = w->pass.plain_characters;
    c[AR_C_alphabetic_words] = w->pass.alphabetic;
    c[AR_C_unspaced_words] = w->pass.unspaced;
    c[AR_C_unique_words] = (int64_t)set->count;
    for (int i = 0; i < 256 && c[AR_C_words]; ++i) {
        seen += w->pass.lengths[i];
        if (2 * seen >= c[AR_C_words]) {
            c[AR_C_median_word_length] = i;
            break;
        }
    }
    for (size_t i = 0; i < set->count; ++i) {
        if (set->counts[i] < 64) spectrum[set->counts[i]]++;
        else c[AR_C_entropy] += (int64_t)(set->counts[i] * log2_fixed(set->counts[i]));
    }
    for (int i = 2; i < 64; ++i)
        if (spectrum[i]) c[AR_C_entropy] += spectrum[i] * i * (int64_t)log2_fixed((uint64_t)i);
    if (c[AR_C_words]) c[AR_C_entropy] = c[AR_C_words] * (int64_t)log2_fixed((uint64_t)c[AR_C_words]) - c[AR_C_entropy];
    for (int32_t i = 0; i < w->pass.settings->n_stop_words; ++i) {
        const uint32_t number = ar_key_find(set, w->pass.settings->stop_words[i]);
        if (number == UINT32_MAX) continue;
        c[AR_C_stop_words_distinct]++;
        c[AR_C_stop_words_total] += set->counts[number];
    }
}

static void free_words(word_list *words) {
    free(words->ids);
    free(words->lengths);
    ar_key_free(&words->different);
}

static int count_all(const ar_text_settings *settings, span text, int64_t *counters) {
    word_list words = {0};
    character_counts characters = {0};
    walk w = {.counters = counters};
    w.pass = (word_pass){.settings = settings, .tables = settings->tables, .text = text.p, .end = text.end};
    w.pass.words = &words;
    w.pass.characters = &characters;
    int well = ar_phrases_begin(&w.finder, text);
    if (well) {
        const size_t size = w.finder.size;
        counters[AR_C_bytes] = (int64_t)size;
        for (size_t at; (at = w.finder.next[LOREM]) < size;) {
            counters[AR_C_lorem_ipsum]++;
            ar_phrases_from(&w.finder, LOREM, at + 11);
        }
        ar_phrases_from(&w.finder, LOREM, 0);
        counters[AR_C_xml_header] = has_xml_header(text);
        well = count_lines(&w, text) && ar_text_pieces(settings->tables, text, counters);
    }
    if (well) {
        count_characters(settings->tables, text, &characters, counters);
        count_words(&w, &words);
        well = ar_text_repetition(&words, counters);
    }
    free(w.finder.lower);
    free(w.scratch.buffer);
    free_words(&words);
    return well;
}

int ar_text_measure(const ar_text_settings *settings, const uint8_t *text, size_t n, int64_t *counters,
                    uint32_t *signature, ar_text_result *normal) {
    memset(counters, 0, AR_TEXT_N_COUNTERS * sizeof *counters);
    normal->data = NULL;
    if (!count_all(settings, (span){text, text + n}, counters)) return -1;
    if (ar_text_normalise(settings, text, n, normal)) return -1;
    const uint8_t *p = normal->data;
    if (ar_text_sign(settings, (span){p, p + normal->count}, signature)) return 0;
    ar_text_free(normal);
    return -1;
}

int ar_text_words(const ar_text_settings *settings, const uint8_t *text, size_t n, ar_text_result *words) {
    word_list list = {0};
    const uint8_t *end = text + n;
    word_pass pass = {
        .settings = settings, .tables = settings->tables, .text = text, .end = end, .words = &list, .bounds = words};
    words->data = NULL;
    words->count = 0;
    line_counts counts = {0};
    ar_text_line_words(&pass, (span){text, end}, 0, &counts);
    free_words(&list);
    if (pass.failed) ar_text_free(words);
    return pass.failed ? -1 : 0;
}

void ar_text_free(ar_text_result *result) {
    free(result->data);
    result->data = NULL;
    result->count = 0;
}

#define AR_TEXT_NAME(name) #name ","
const char *ar_text_counter_names(void) { return AR_TEXT_COUNTERS(AR_TEXT_NAME); }
