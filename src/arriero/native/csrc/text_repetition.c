/* How much a text repeats itself (Rae et al. 2021, table A1), by datatrove's definitions.
 *
 * n-grams are numbered from those of n - 1: only where both (n-1)-grams of one come twice can it come twice, so few are
 * left after the first steps. Equal words are those with equal 64-bit hashes; n-grams of them are compared exactly. */
#include "text_basics.h"

typedef struct {
    uint32_t *at, *number; /* positions of n-grams that come twice, in order, and their numbers */
    size_t count;
} grams;

static int64_t length_of(const word_list *words, size_t at, int n) {
    int64_t sum = 0;
    for (int i = 0; i < n; ++i) sum += words->lengths[at + (size_t)i];
    return sum;
}

static int64_t top(const word_list *words, const grams *g, const key_set *set, int n) {
    if (words->count < (size_t)n) return 0;
    uint32_t most = 1;
    size_t at = 0;
    for (size_t i = 0; i < g->count; ++i)
        if (set->counts[g->number[i]] > most) most = set->counts[g->number[i]], at = g->at[i];
    return (length_of(words, at, n) + n - 1) * (int64_t)most;
}

static int64_t repeated(const word_list *words, const grams *g, uint8_t *seen, int n) {
    int64_t sum = 0;
    size_t next = 0;
    for (size_t i = 0; i < g->count; ++i) {
        if (g->at[i] < next) continue;
        if (seen[g->number[i]]) {
            sum += length_of(words, g->at[i], n);
            next = g->at[i] + (size_t)n;
        }
        seen[g->number[i]] = 1;
    }
    return sum;
}

/* the bits of a pair are mixed by a bijection, so that different n-grams have different keys */
T_INLINE uint64_t key_of(const word_list *words, const grams *g, size_t i, int n) {
    return scramble((uint64_t)g->number[i] << 32 | words->ids[(size_t)g->at[i] + (size_t)n - 1]);
}

/* keep those n-grams whose two (n-1)-grams come twice */
static void drop_lonely(const word_list *words, grams *g, int n) {
    size_t kept = 0;
    for (size_t i = 0; i + 1 < g->count; ++i) {
        g->at[kept] = g->at[i];
        g->number[kept] = g->number[i];
        kept += (g->at[i + 1] == g->at[i] + 1) & ((size_t)g->at[i] + (size_t)n <= words->count);
    }
    g->count = kept;
}

/* of those, leave out most that come once: what no other shares a small counter with */
static int drop_single(const word_list *words, grams *g, int n) {
    size_t size = 1024, kept = 0;
    while (size < 4 * g->count) size *= 2;
    uint8_t *times = calloc(size, 1);
    if (!times) return 0;
    for (size_t i = 0; i < g->count; ++i) {
        uint8_t *t = times + (key_of(words, g, i, n) & (size - 1));
        *t = (uint8_t)(*t | (*t << 1) | 1); /* 0, 1, 3, ... */
    }
    for (size_t i = 0; i < g->count; ++i) {
        const uint8_t t = times[key_of(words, g, i, n) & (size - 1)];
        g->at[kept] = g->at[i];
        g->number[kept] = g->number[i];
        kept += t > 1;
    }
    g->count = kept;
    free(times);
    return 1;
}

/* from those of n - 1 that come twice to those of n */
static int longer(const word_list *words, grams *g, key_set *set, int n) {
    drop_lonely(words, g, n);
    if (!drop_single(words, g, n)) return 0;
    for (size_t i = 0; i < g->count; ++i) {
        const uint32_t number = ar_key_number(set, key_of(words, g, i, n));
        if (number == UINT32_MAX) return 0;
        g->number[i] = number;
    }
    return 1;
}

static void keep_repeated(grams *g, const uint32_t *counts) {
    size_t kept = 0;
    for (size_t i = 0; i < g->count; ++i) {
        g->at[kept] = g->at[i];
        g->number[kept] = g->number[i];
        kept += counts[g->number[i]] > 1;
    }
    g->count = kept;
}

static int measure(const word_list *words, grams *g, int64_t *counters, uint8_t *seen) {
    for (size_t i = 0; i < words->count; ++i) g->at[i] = (uint32_t)i, g->number[i] = words->ids[i];
    g->count = words->count;
    keep_repeated(g, words->different.counts);
    for (int n = 2; n <= 10; ++n) {
        key_set set = {0};
        int well = longer(words, g, &set, n);
        if (well && n < 5) counters[AR_C_top_2gram + n - 2] = top(words, g, &set, n);
        if (well) keep_repeated(g, set.counts);
        if (well && n >= 5) {
            memset(seen, 0, set.count);
            counters[AR_C_duplicate_5grams + n - 5] = repeated(words, g, seen, n);
        }
        ar_key_free(&set);
        if (!well) return 0;
    }
    return 1;
}

int ar_text_repetition(word_list *words, int64_t *counters) {
    const size_t n = words->count + 1;
    grams g = {malloc(n * sizeof(uint32_t)), malloc(n * sizeof(uint32_t)), 0};
    uint8_t *seen = malloc(n);
    const int well = g.at && g.number && seen && measure(words, &g, counters, seen);
    free(g.at);
    free(g.number);
    free(seen);
    return well;
}

/* ------------------------------------------------------------------------------------------------ lines, paragraphs */

/* 1: it stood before, 0: it did not, -1: no memory */
static int stood_before(key_set *set, span line, const uint8_t *end) {
    const size_t before = set->count;
    if (ar_key_number(set, hash_of(line.p, (size_t)(line.end - line.p), end)) == UINT32_MAX) return -1;
    return set->count == before;
}

static int is_blank(const ar_text_tables *tables, span line) {
    int bytes;
    for (; line.p < line.end; line.p += bytes)
        if (!(flags_of(tables, character(line.p, line.end, &bytes)) & T_SPACE)) return 0;
    return 1;
}

/* What lies between runs of line feeds, the empty stretches at the text's ends too; filled lines are those of them that
 * are not blank. */
static int feed_lines(const ar_text_tables *tables, span text, key_set *set, int64_t *c) {
    const int empty = (*text.p == '\n') + (text.end[-1] == '\n');
    c[AR_C_pieces] = empty;
    c[AR_C_duplicate_lines] = empty == 2;
    for (const uint8_t *p = text.p; p < text.end;) {
        const uint8_t *stop = line_end(p, text.end);
        const span line = {p, stop};
        p = stop + 1;
        if (line.p == stop) continue;
        c[AR_C_pieces]++;
        const int again = stood_before(set, line, text.end);
        if (again < 0) return 0;
        if (!again) continue;
        const int64_t characters = characters_of(line);
        c[AR_C_duplicate_lines]++;
        c[AR_C_duplicate_line_characters] += characters;
        c[AR_C_repeated_line_characters] += is_blank(tables, line) ? 0 : characters;
    }
    return 1;
}

static const uint8_t *past_feeds(const uint8_t *p, const uint8_t *end) {
    while (p < end && *p == '\n') ++p;
    return p;
}

static int paragraphs(const ar_text_tables *tables, span text, key_set *set, int64_t *c) {
    const uint8_t *end = text.end;
    text = ar_text_strip(tables, text);
    for (const uint8_t *p = text.p;;) {
        const uint8_t *stop = line_end(p, text.end);
        while (stop + 1 < text.end && stop[1] != '\n') stop = line_end(stop + 1, text.end);
        const int again = stood_before(set, (span){p, stop}, end);
        if (again < 0) return 0;
        c[AR_C_paragraphs]++;
        c[AR_C_duplicate_paragraphs] += again;
        c[AR_C_duplicate_paragraph_characters] += again ? characters_of((span){p, stop}) : 0;
        if (stop == text.end) return 1;
        p = past_feeds(stop, text.end);
    }
}

int ar_text_pieces(const ar_text_tables *tables, span text, int64_t *counters) {
    if (text.p == text.end) return 1;
    key_set lines = {0}, stretches = {0};
    const int well = feed_lines(tables, text, &lines, counters) && paragraphs(tables, text, &stretches, counters);
    ar_key_free(&lines);
    ar_key_free(&stretches);
    return well;
}
