/* Lines: how they end, what C4's rules say of them, their hashes. */
#define _GNU_SOURCE /* memmem */
#include "text_basics.h"

static const char *const phrases[PHRASES] = {"cookie", "terms of use", "privacy policy", "lorem ipsum", "javascript"};

void ar_phrases_from(phrase_finder *finder, int phrase, size_t from) {
    const uint8_t *found = from < finder->size ? memmem(finder->lower + from, finder->size - from, phrases[phrase],
                                                        strlen(phrases[phrase]))
                                               : NULL;
    finder->next[phrase] = found ? (size_t)(found - finder->lower) : SIZE_MAX;
}

static void to_lower(uint8_t *to, const uint8_t *from, size_t n) {
    for (size_t i = 0; i < n; ++i) to[i] = from[i] | ((uint8_t)(from[i] - 'A') < 26 ? 0x20 : 0);
}

int ar_phrases_begin(phrase_finder *finder, span text) {
    finder->size = (size_t)(text.end - text.p);
    finder->lower = malloc(finder->size + 1);
    if (!finder->lower) return 0;
    to_lower(finder->lower, text.p, finder->size);
    for (int i = 0; i < PHRASES; ++i) ar_phrases_from(finder, i, 0);
    return 1;
}

static int stands(const uint8_t *p, size_t left, const char *phrase) {
    const size_t n = strlen(phrase);
    return left >= n && !memcmp(p, phrase, n);
}

static int stands_before(const uint8_t *p, size_t before, const char *phrase) {
    const size_t n = strlen(phrase);
    return before >= n && !memcmp(p - n, phrase, n);
}

/* a "cookie" at `at`, in C4's phrases about them */
static int cookie_policy(const uint8_t *line, size_t size, size_t at) {
    const uint8_t *p = line + at;
    if (stands(p, size - at, "cookie policy")) return 1;
    if (!stands(p, size - at, "cookies")) return 0;
    return stands_before(p, at, "use ") || stands_before(p, at, "uses ") || stands_before(p, at, "use of ");
}

uint32_t ar_phrases(phrase_finder *finder, size_t from, size_t to) {
    static const uint32_t flags[PHRASES] = {0, L_POLICY, L_POLICY, L_LOREM, L_JAVASCRIPT};
    uint32_t found = 0;
    for (int i = 0; i < PHRASES; ++i) {
        if (finder->next[i] < from) ar_phrases_from(finder, i, from);
        while (finder->next[i] < to && finder->next[i] + strlen(phrases[i]) <= to) {
            const size_t at = finder->next[i];
            if (i != COOKIE) {
                found |= flags[i];
                break;
            }
            if (cookie_policy(finder->lower + from, to - from, at - from)) {
                found |= L_POLICY;
                break;
            }
            ar_phrases_from(finder, i, at + 1);
        }
    }
    return found | (memchr(finder->lower + from, '{', to - from) ? L_CURLY : 0);
}

span ar_text_strip(const ar_text_tables *tables, span line) {
    int bytes;
    while (line.p < line.end && (flags_of(tables, character(line.p, line.end, &bytes)) & T_SPACE)) line.p += bytes;
    while (line.p < line.end) {
        const uint8_t *last = line.end - 1;
        while (last > line.p && line.end - last < 4 && (*last & 0xc0) == 0x80) --last;
        if (!(flags_of(tables, character(last, line.end, &bytes)) & T_SPACE) || last + bytes != line.end) break;
        line.end = last;
    }
    return line;
}

static uint32_t last_flags(const ar_text_tables *tables, span line) {
    int bytes;
    const uint8_t *last = line.end - 1;
    while (last > line.p && line.end - last < 4 && (*last & 0xc0) == 0x80) --last;
    return flags_of(tables, character(last, line.end, &bytes));
}

uint32_t ar_text_ends(const ar_text_tables *tables, span line) {
    const size_t n = (size_t)(line.end - line.p);
    if (!n) return 0;
    const uint8_t *end = line.end, last = end[-1];
    const int three_dots = n >= 3 && !memcmp(end - 3, "...", 3);
    const int mark = last == '.' || last == '?' || last == '!' || last == '"' || last == '\'';
    uint32_t flags = mark && !three_dots ? L_END_MARK : 0;
    if (three_dots || (n >= 3 && !memcmp(end - 3, "\xe2\x80\xa6", 3))) flags |= L_ELLIPSIS;
    if (last_flags(tables, line) & T_TERMINAL) flags |= L_TERMINAL;
    if (*line.p == '-' || (n >= 3 && !memcmp(line.p, "\xe2\x80\xa2", 3))) flags |= L_BULLET;
    return flags;
}

/* the length of [12], [], [edit] or [citation needed] at p */
static size_t citation(const uint8_t *p, const uint8_t *end, const ar_text_tables *tables) {
    const size_t left = (size_t)(end - p);
    if (stands(p, left, "[edit]")) return 6;
    if (stands(p, left, "[citation needed]")) return 17;
    const uint8_t *q = p + 1;
    int bytes;
    while (q < end && (flags_of(tables, character(q, end, &bytes)) & T_DIGIT)) q += bytes;
    return q < end && *q == ']' ? (size_t)(q + 1 - p) : 0;
}

/* the line without them, in the scratch; the same line where there are none. p NULL: no memory */
static span without_citations(c4_scratch *scratch, span line, const ar_text_tables *tables) {
    const uint8_t *from = line.p, *p = memchr(from, '[', (size_t)(line.end - from));
    uint8_t *to = NULL;
    while (p) {
        const size_t n = citation(p, line.end, tables);
        if (n && !to) {
            const size_t needed = (size_t)(line.end - line.p);
            if (needed > scratch->capacity) {
                free(scratch->buffer);
                scratch->buffer = malloc(needed);
                scratch->capacity = scratch->buffer ? needed : 0;
                if (!scratch->buffer) return (span){NULL, NULL};
            }
            to = scratch->buffer;
        }
        if (n) {
            memcpy(to, from, (size_t)(p - from));
            to += p - from;
            from = p + n;
        }
        const uint8_t *next = n ? from : p + 1;
        p = next < line.end ? memchr(next, '[', (size_t)(line.end - next)) : NULL;
    }
    if (!to) return line;
    memcpy(to, from, (size_t)(line.end - from));
    return (span){scratch->buffer, to + (line.end - from)};
}

static uint32_t verdict(uint32_t flags, const line_counts *counts) {
    if ((flags & (L_LONG_WORD | L_LOREM | L_JAVASCRIPT | L_CURLY | L_POLICY)) || counts->tokens < 3) return flags;
    return flags | L_C4_OPEN | (flags & L_END_MARK ? L_C4 : 0);
}

uint32_t ar_text_c4(word_pass *pass, c4_scratch *scratch, span line, uint32_t flags, const line_counts *counts,
                    int64_t *sentences) {
    const span bare = without_citations(scratch, line, pass->tables);
    if (!bare.p) {
        pass->failed = 1;
        return flags;
    }
    *sentences = counts->sentences;
    if (bare.p == line.p) return verdict(flags, counts);
    const uint32_t content = L_LOREM | L_JAVASCRIPT | L_CURLY | L_POLICY | L_END_MARK;
    phrase_finder finder;
    if (!ar_phrases_begin(&finder, bare)) {
        pass->failed = 1;
        return flags;
    }
    flags = (flags & ~content) | ar_phrases(&finder, 0, finder.size) | (ar_text_ends(pass->tables, bare) & L_END_MARK);
    free(finder.lower);
    line_counts inner = {0};
    word_pass again = {.settings = pass->settings, .tables = pass->tables, .text = bare.p, .end = bare.end};
    ar_text_line_words(&again, bare, 1, &inner);
    *sentences = inner.sentences;
    return verdict(flags, counts);
}

/* CCNet's normalised form into `to`, which has room for all of it; its length */
static size_t normal_line(const ar_text_tables *tables, span line, uint8_t *to) {
    uint8_t *out = to;
    int space = 0;
    for (const uint8_t *p = line.p; p < line.end;) {
        int bytes;
        const uint32_t c = character(p, line.end, &bytes);
        p += bytes;
        const int32_t lower = tables->lower[place(tables, c)];
        if (lower < 0) continue;
        if (lower == ' ' || (!lower && c == ' ')) {
            space = out > to;
            continue;
        }
        if (space) *out++ = ' ';
        space = 0;
        out += put(out, lower ? (uint32_t)lower : c);
    }
    return (size_t)(out - to);
}

static int32_t narrow(int64_t x) { return x > INT32_MAX ? INT32_MAX : (int32_t)x; }

typedef struct {
    word_pass pass;
    c4_scratch scratch;
    phrase_finder finder;
    uint8_t *normal;
    size_t normal_capacity, capacity;
    ar_text_result *out;
    int64_t position; /* characters before the line */
} line_walk;

static int add_line(line_walk *w, span line) {
    const ar_text_tables *tables = w->pass.tables;
    const size_t needed = 3 * (size_t)(line.end - line.p) + 16; /* U+FFFD for a bad byte has three */
    if (needed > w->normal_capacity) {
        free(w->normal);
        w->normal = malloc(needed);
        w->normal_capacity = w->normal ? needed : 0;
    }
    if (!w->normal || !room(&w->out->data, w->out->count, &w->capacity, sizeof(ar_text_line))) return 0;
    ar_text_line *row = (ar_text_line *)w->out->data + w->out->count++;
    const size_t n = normal_line(tables, line, w->normal);
    const span bare = ar_text_strip(tables, line);
    line_counts counts = {0};
    ar_text_line_words(&w->pass, bare, 0, &counts);
    uint32_t flags = ar_text_ends(tables, bare) | (counts.longest > 1000 ? L_LONG_WORD : 0);
    flags |= ar_phrases(&w->finder, (size_t)(bare.p - w->pass.text), (size_t)(bare.end - w->pass.text));
    int64_t sentences = 0;
    flags = ar_text_c4(&w->pass, &w->scratch, bare, flags, &counts, &sentences);
    row->start = w->position;
    row->end = w->position += characters_of(line);
    row->hash = n ? hash_of(w->normal, n, w->normal + n) : 0;
    row->tokens = narrow(counts.tokens);
    row->longest_token = narrow(counts.longest);
    row->sentences = narrow(counts.sentences);
    row->letters = narrow(counts.letters);
    row->upper = narrow(counts.upper);
    row->digits = narrow(counts.digits);
    row->flags = flags;
    row->c4_sentences = narrow(sentences);
    return !w->pass.failed;
}

int ar_text_lines(
    const ar_text_settings *settings, const uint8_t *text, size_t n, int paragraphs, ar_text_result *lines) {
    const uint8_t *end = text + n, *p = text;
    line_walk w = {.pass = {.settings = settings, .tables = settings->tables, .text = text, .end = end}, .out = lines};
    int well = ar_phrases_begin(&w.finder, (span){text, end});
    lines->data = NULL;
    lines->count = 0;
    while (paragraphs && p < end && *p == '\n') ++p, ++w.position;
    while (well && p <= end) {
        const uint8_t *stop = line_end(p, end);
        while (paragraphs && stop + 1 < end && stop[1] != '\n') stop = line_end(stop + 1, end);
        if (!paragraphs || stop > p) well = add_line(&w, (span){p, stop});
        p = stop + 1;
        w.position++;
        while (paragraphs && p < end && *p == '\n') ++p, ++w.position;
    }
    free(w.finder.lower);
    free(w.scratch.buffer);
    free(w.normal);
    if (!well) ar_text_free(lines);
    return well ? 0 : -1;
}
