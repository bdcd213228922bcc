/* Words and sentences of a line, one token between white space at a time. Characters of scripts without spaces are
 * words, each one. */
#include "text_peel.h"

/* a word of the list: flags that any and that all of its characters have */
static void add_hashed(word_pass *pass, const uint8_t *from, const uint8_t *to, uint64_t hash, int64_t characters,
                       uint32_t any, uint32_t all) {
    word_list *words = pass->words;
    const uint32_t number = ar_key_number(&words->different, hash);
    if (UNLIKELY(words->count == words->capacity)) {
        size_t same = words->capacity;
        if (!room((void **)&words->ids, words->count, &same, sizeof(uint32_t)) ||
            !room((void **)&words->lengths, words->count, &words->capacity, sizeof(uint32_t))) {
            pass->failed = 1;
            return;
        }
    }
    if (UNLIKELY(number == UINT32_MAX)) {
        pass->failed = 1;
        return;
    }
    words->ids[words->count] = number;
    words->lengths[words->count++] = (uint32_t)characters;
    const int plain = !(all & T_MARK);
    pass->plain += plain;
    pass->plain_characters += plain ? characters : 0;
    pass->alphabetic += (any & T_ALPHA) != 0;
    pass->lengths[characters < 255 ? characters : 255]++;
    if (UNLIKELY(pass->bounds != NULL)) {
        if (!room(&pass->bounds->data, pass->bounds->count, &pass->bounds_capacity, 16)) {
            pass->failed = 1;
            return;
        }
        uint64_t *bounds = (uint64_t *)pass->bounds->data + 2 * pass->bounds->count++;
        bounds[0] = (uint64_t)(from - pass->text);
        bounds[1] = (uint64_t)(to - pass->text);
    }
}

void ar_text_add_word(
    word_pass *pass, const uint8_t *from, const uint8_t *to, int64_t characters, uint32_t any, uint32_t all) {
    add_hashed(pass, from, to, hash_of(from, (size_t)(to - from), pass->end), characters, any, all);
}

/* what lies between white space and characters of scripts without it */
static void finish_chunk(word_pass *pass, chunk *k, const uint8_t *end, uint32_t any, uint32_t all, int64_t characters) {
    if (!characters) return;
    if (pass->words && pass->settings->by_space) ar_text_add_word(pass, k->at[0], end, characters, any, all);
    if (UNLIKELY(characters > MOST)) {
        sentence_token(pass, all & T_PUNCT ? PUNCTUATION : OTHER);
        if (pass->words && !pass->settings->by_space) ar_text_add_word(pass, k->at[0], end, characters, any, all);
        return;
    }
    k->n = (int)characters;
    k->at[k->n] = end;
    const int plain = !(any & T_ACTIVE) && (!(any & T_ASCII_DIGIT) || (all & T_ASCII_DIGIT));
    const uint64_t hash = plain ? hash_of(k->at[0], (size_t)(end - k->at[0]), pass->end) : 0;
    const int found = plain ? (int)(special_of(pass->tables, hash) & 0xffffff) : 0;
    if (plain && !found) {
        sentence_token(pass, kind_of_word(characters, all));
        if (pass->words && !pass->settings->by_space) add_hashed(pass, k->at[0], end, hash, characters, any, all);
    } else if (found) {
        ar_text_exception(pass, k, 0, k->n, found);
    } else {
        ar_text_peel(pass, k);
    }
}

static int is_url(const uint8_t *p, const uint8_t *end) {
    while (p < end && (*p == '(' || *p == '[' || *p == '<' || *p == '{' || *p == '"' || *p == '\'')) ++p;
    static const char *const starts[3] = {"http://", "https://", "www."};
    for (int i = 0; i < 3; ++i) {
        const size_t n = strlen(starts[i]);
        if ((size_t)(end - p) < n) continue;
        size_t j = 0;
        while (j < n && (p[j] >= 'A' && p[j] <= 'Z' ? p[j] | 0x20 : p[j]) == (uint8_t)starts[i][j]) ++j;
        if (j == n) return 1;
    }
    return 0;
}

enum { OTHERS, LETTERS, DIGITS };

/* Runs of characters of a token. In an imitated byte-pair encoding (columns.py) a run costs one, and one more after
 * every `period` characters. */
typedef struct {
    uint32_t last, same, at, dots; /* character, length of the run of it, place in the run of a kind */
    int kind;
} runs;

static void run_of(character_counts *counts, runs *r, uint32_t c, uint32_t flags) {
    static const uint32_t periods[3] = {4, 6, 3};
    const int kind = flags & T_ALPHA ? LETTERS : flags & T_DIGIT ? DIGITS : OTHERS, same = c == r->last;
    r->at = kind == r->kind && (same || kind != OTHERS) ? r->at + 1 : 0;
    if (r->at == periods[kind]) r->at = 0;
    counts->encoded += r->at == 0;
    r->kind = kind;
    r->same = same ? r->same + 1 : 1;
    if (r->same > counts->longest_run) counts->longest_run = r->same;
    r->last = c;
    r->dots = c == '.' ? r->dots + 1 : 0;
    if (r->dots == 3 || c == 0x2026) counts->ellipses++, r->dots = 0;
}

T_INLINE void count_character(character_counts *counts, runs *r, uint32_t c, uint32_t flags) {
    if (!counts) return;
    run_of(counts, r, c, flags);
    if (LIKELY(c < 128)) {
        counts->ascii[c]++;
        return;
    }
    counts->alphanumeric += (flags & T_ALNUM) != 0;
    counts->punctuation += (flags & T_PUNCT) != 0;
    counts->symbols += (flags & T_SYMBOL) != 0;
    counts->control += (flags & T_CONTROL) != 0;
}

static const uint8_t *unspaced_word(word_pass *pass, span rest, int bytes, uint32_t flags, runs *r, int64_t *characters) {
    const uint8_t *p = rest.p + bytes;
    uint32_t all = flags;
    *characters = 1;
    while (p < rest.end && *p >= 0x80) { /* its marks */
        const uint32_t c = wide_character(p, rest.end, &bytes), f = flags_of(pass->tables, c);
        if (!(f & T_COMBINING)) break;
        count_character(pass->characters, r, c, f);
        p += bytes;
        all &= f;
        flags |= f;
        ++*characters;
    }
    sentence_token(pass, OTHER);
    if (pass->words) {
        ar_text_add_word(pass, rest.p, p, *characters, flags, all);
        pass->unspaced++;
    }
    return p;
}

typedef struct {
    int64_t characters, letters, upper;
    const uint8_t *from;
} token_counts;

static void finish_token(line_counts *counts, const token_counts *t, const uint8_t *end) {
    counts->tokens++;
    counts->token_characters += t->characters;
    if (t->characters > counts->longest) counts->longest = t->characters;
    counts->letters += t->letters;
    counts->upper += t->upper;
    counts->upper_tokens += t->letters > 1 && t->upper == t->letters;
    const uint8_t c = *t->from;
    if (c == 'h' || c == 'H' || c == 'w' || c == 'W' || (c < 0x80 && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z')))
        if (is_url(t->from, end)) {
            counts->urls++;
            counts->url_characters += t->characters;
        }
}

typedef struct {
    uint64_t hash;
    int64_t upper, longest_run;
    const uint8_t *end;
} letters;

#define EACH(byte) ((byte) * 0x0101010101010101u)

/* the highest bit of every byte that is an ASCII letter */
T_INLINE uint64_t letters_in(uint64_t w) {
    const uint64_t low = (w | EACH(0x20)) & EACH(0x7f);
    return (low + EACH(0x80 - 'a')) & ~(low + EACH(0x7f - 'z')) & ~w & EACH(0x80u);
}

/* the highest bit of every byte that equals the one behind it */
T_INLINE uint64_t doubles_in(uint64_t w) {
    const uint64_t x = w ^ w >> 8;
    return ~(((x & EACH(0x7f)) + EACH(0x7f)) | x | EACH(0x7f));
}

/* at most seven letters, of eight bytes that may be read; 0: it is something else */
T_INLINE int short_letters(const uint8_t *p, letters *found) {
    const uint64_t w = load(p), others = ~letters_in(w) & EACH(0x80u);
    if (!others) return 0;
    const int n = __builtin_ctzll(others) / 8;
    const uint64_t mask = ((uint64_t)1 << 8 * n) - 1, doubles = doubles_in(w) & mask >> 8;
    if (!n || (doubles & doubles >> 8)) return 0;
    found->hash = hash_end(hash_step(0, w & mask), (size_t)n);
    found->upper = __builtin_popcountll(~w & EACH(0x20) & mask);
    found->longest_run = doubles ? 2 : 1;
    found->end = p + n;
    return n;
}

static int64_t any_letters(word_pass *pass, span rest, letters *found) {
    const uint8_t *p = rest.p;
    uint32_t same = 0, last = 0;
    found->upper = found->longest_run = 0;
    for (; p < rest.end; ++p) {
        const uint32_t c = *p;
        if ((uint8_t)((c | 0x20) - 'a') > 25) break;
        found->upper += !(c & 0x20);
        same = c == last ? same + 1 : 1;
        found->longest_run = same > found->longest_run ? same : found->longest_run;
        last = c;
    }
    found->end = p;
    found->hash = hash_of(rest.p, (size_t)(p - rest.p), pass->end);
    return p - rest.p;
}

T_INLINE int ends_token(const uint8_t *p, const uint8_t *end) { return p == end || *p == ' ' || *p == '\n'; }

/* the mark that ends a token of letters and is cut off from it, whatever the letters are; 0: there is none such */
static int mark_behind(const word_pass *pass, span rest, const letters *found, int64_t n) {
    if (found->end == rest.end || !ends_token(found->end + 1, rest.end) || pass->settings->by_space) return 0;
    const uint8_t c = *found->end;
    if (c != ',' && c != '.' && c != ';' && c != ':' && c != '!' && c != '?') return 0;
    if (c == '.' && (n == 3 || !(found->end[-1] & 0x20))) return 0; /* www., U.S. and such */
    return special_of(pass->tables, hash_of(rest.p, (size_t)n + 1, pass->end)) & 0xffffff ? 0 : c;
}

static void count_plain(word_pass *pass, line_counts *counts, const letters *found, int64_t n, int mark) {
    const int64_t characters = n + (mark != 0);
    counts->tokens++;
    counts->token_characters += characters;
    if (characters > counts->longest) counts->longest = characters;
    counts->letters += n;
    counts->upper += found->upper;
    counts->upper_tokens += n > 1 && found->upper == n;
    character_counts *c = pass->characters;
    if (!c) return;
    c->encoded += (n + 5) / 6 + (mark != 0);
    c->alphanumeric += n;
    c->ascii[mark] += mark != 0;
    if (found->longest_run > c->longest_run) c->longest_run = found->longest_run;
}

/* A token of ASCII letters, which most are, perhaps with one mark behind them: the white space behind it; NULL: it is
 * something else. */
static const uint8_t *plain_token(word_pass *pass, span rest, line_counts *counts) {
    letters found;
    int64_t n = LIKELY(rest.end - rest.p >= 8) ? short_letters(rest.p, &found) : 0;
    if (!n) n = any_letters(pass, rest, &found);
    if (!n || n >= MOST) return NULL;
    const int mark = ends_token(found.end, rest.end) ? 0 : mark_behind(pass, rest, &found, n);
    if (!mark && !ends_token(found.end, rest.end)) return NULL;
    if (UNLIKELY(special_of(pass->tables, found.hash) & 0xffffff)) return NULL;
    sentence_token(pass, OTHER);
    if (pass->words) add_hashed(pass, rest.p, found.end, found.hash, n, T_ALPHA, T_ALPHA);
    count_plain(pass, counts, &found, n, mark);
    if (!mark) return found.end;
    const uint32_t flags = pass->tables->flags[mark];
    sentence_token(pass, kind_of_word(1, flags));
    if (pass->words) ar_text_add_word(pass, found.end, found.end + 1, 1, flags, flags);
    return found.end + 1;
}

/* from the first character of a token to the white space behind it */
static const uint8_t *one_token(word_pass *pass, chunk *k, span rest, line_counts *counts) {
    token_counts t = {0, 0, 0, rest.p};
    runs r = {.last = UINT32_MAX, .kind = -1};
    const uint8_t *p = rest.p;
    int64_t n = 0;
    uint32_t any = 0, all = ~0u;
    while (p < rest.end) {
        int bytes;
        const uint32_t c = character(p, rest.end, &bytes), flags = flags_of(pass->tables, c);
        if (flags & T_SPACE) break;
        count_character(pass->characters, &r, c, flags);
        t.letters += flags & T_ALPHA;
        t.upper += (flags & T_UPPER) != 0;
        counts->digits += (flags & T_DIGIT) != 0;
        t.characters++;
        if (UNLIKELY(flags & T_UNSPACED)) {
            finish_chunk(pass, k, p, any, all, n);
            n = 0, any = 0, all = ~0u;
            int64_t characters;
            const uint8_t *past = unspaced_word(pass, (span){p, rest.end}, bytes, flags, &r, &characters);
            t.characters += characters - 1;
            p = past;
            continue;
        }
        if (LIKELY(n < MOST)) {
            k->c[n] = c;
            k->flags[n] = flags;
            k->at[n] = p;
        }
        ++n;
        any |= flags;
        all &= flags;
        p += bytes;
    }
    finish_chunk(pass, k, p, any, all, n);
    finish_token(counts, &t, p);
    return p;
}

void ar_text_line_words(word_pass *pass, span line, int whole, line_counts *counts) {
    chunk k;
    const uint8_t *p = line.p;
    pass->period = pass->started = 0;
    pass->breaks = 0;
    while (p < line.end && !pass->failed) {
        const uint8_t *from = p;
        int bytes;
        while (p < line.end) {
            const uint32_t c = character(p, line.end, &bytes);
            if (!(flags_of(pass->tables, c) & T_SPACE)) break;
            p += bytes;
        }
        const int first = from == line.p, last = p == line.end;
        /* spaCy's own token of white space, where there is more than one space between two chunks */
        const int one_space = p == from || (p - from == 1 && *from == ' ' && !first);
        if (!one_space && (whole || (!first && !last))) sentence_token(pass, OTHER);
        if (last) break;
        const uint8_t *past = plain_token(pass, (span){p, line.end}, counts);
        p = past ? past : one_token(pass, &k, (span){p, line.end}, counts);
    }
    counts->sentences += pass->started ? 1 + pass->breaks : 0;
}
