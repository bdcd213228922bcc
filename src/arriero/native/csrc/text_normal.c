/* The normalised text, its shingles and their MinHash signature. */
#include "text_basics.h"
#include "text_minhash.h"

#define MOST_WORDS 64 /* of a shingle */

typedef struct {
    const ar_text_tables *tables;
    const uint8_t *p, *end;
    uint8_t *out; /* there is a space before the first */
} writer;

static void skip_digits(writer *w) {
    int bytes;
    while (w->p < w->end && (flags_of(w->tables, character(w->p, w->end, &bytes)) & T_DIGIT)) w->p += bytes;
}

static int separates(uint32_t c) {
    return c == '.' || c == ',' || c == 0x60c || c == 0x66b || (c >= 0x2396 && c <= 0x2398);
}

/* the number at p, with one decimal part */
static void skip_number(writer *w) {
    skip_digits(w);
    if (w->p == w->end) return;
    int bytes, more;
    if (!separates(character(w->p, w->end, &bytes)) || w->p + bytes >= w->end) return;
    if (!(flags_of(w->tables, character(w->p + bytes, w->end, &more)) & T_DIGIT)) return;
    w->p += bytes;
    skip_digits(w);
}

/* ASCII up to a digit or a character beyond it; no space is written behind a space, nor at the beginning */
T_INLINE void write_ascii(writer *w, const uint8_t *ascii) {
    const uint8_t *p = w->p;
    uint8_t *out = w->out;
    for (; p < w->end; ++p) {
        const uint8_t c = ascii[*p];
        if (UNLIKELY(c == '0')) break; /* digits, and what is beyond ASCII */
        *out = c;
        out += (c != ' ') | (out[-1] != ' ');
    }
    w->p = p;
    w->out = out;
}

static void normalise(writer *w) {
    uint8_t ascii[256];
    memset(ascii, '0', sizeof ascii);
    for (int i = 0; i < 128; ++i) ascii[i] = w->tables->fold[i] > 0 ? (uint8_t)w->tables->fold[i] : (uint8_t)i;
    for (;;) {
        write_ascii(w, ascii);
        if (w->p == w->end) break;
        int bytes;
        const uint32_t c = character(w->p, w->end, &bytes);
        const int32_t fold = w->tables->fold[place(w->tables, c)];
        if (c == '0' || fold == '0') {
            *w->out++ = '0';
            skip_number(w);
            continue;
        }
        w->p += bytes;
        if (fold == ' ') w->out += (*w->out = ' ', w->out[-1] != ' ');
        else if (fold >= 0) w->out += put(w->out, fold ? (uint32_t)fold : c);
    }
}

int ar_text_normalise(const ar_text_settings *settings, const uint8_t *text, size_t n, ar_text_result *normal) {
    /* U+FFFD for a bad byte has three, and lower case at most half as many bytes again */
    uint8_t *memory = malloc(3 * n + 32);
    if (!memory) return -1;
    memory[7] = ' ';
    writer w = {.tables = settings->tables, .p = text, .end = text + n, .out = memory + 8};
    normalise(&w);
    normal->count = (size_t)(w.out - memory - 8);
    if (normal->count && w.out[-1] == ' ') normal->count--;
    memmove(memory, memory + 8, normal->count);
    memset(memory + normal->count, 0, 16);
    uint8_t *fitting = realloc(memory, normal->count + 16);
    normal->data = fitting ? fitting : memory;
    return 0;
}

/* ------------------------------------------------------------------------------------------------ shingles */

typedef struct shingler {
    const ar_text_settings *settings;
    uint64_t ring[2 * MOST_WORDS]; /* each word's hash twice, so that the last ones lie together */
    int at;
    int64_t words;
    uint64_t block[AR_MINHASH_BLOCK];
    int waiting, failed;
    void (*flush)(struct shingler *s);
    ar_minhash *minhash;
    ar_text_result *all;
    size_t capacity;
} shingler;

static void to_minhash(shingler *s) {
    ar_minhash_update(s->minhash, s->block, s->waiting);
    s->waiting = 0;
}

static void to_list(shingler *s) {
    if (!s->waiting) return;
    while (s->all->count + (size_t)s->waiting > s->capacity) {
        if (!room(&s->all->data, s->capacity, &s->capacity, sizeof(uint64_t))) {
            s->failed = 1;
            s->waiting = 0;
            return;
        }
    }
    memcpy((uint64_t *)s->all->data + s->all->count, s->block, (size_t)s->waiting * sizeof(uint64_t));
    s->all->count += (size_t)s->waiting;
    s->waiting = 0;
}

/* the shingle of `size` words */
T_INLINE void shingle(shingler *s, const uint64_t *words, int size) {
    uint64_t sum = 0;
    for (int i = 0; i < size; ++i) sum += words[i] * s->settings->shingle_factors[i];
    s->block[s->waiting++] = scramble(sum);
    if (s->waiting == AR_MINHASH_BLOCK) s->flush(s);
}

T_INLINE void shingle_word(shingler *s, uint64_t hash) {
    const int n = s->settings->shingle_words;
    s->ring[s->at] = s->ring[s->at + n] = hash;
    s->at = s->at + 1 == n ? 0 : s->at + 1;
    if (++s->words >= n) shingle(s, s->ring + s->at, n);
}

/* a word between spaces with characters beyond ASCII: those of scripts without spaces are words, each one */
static void shingle_wide(shingler *s, const uint8_t *from, const uint8_t *to, const uint8_t *end) {
    const uint8_t *start = from;
    for (const uint8_t *p = from; p < to;) {
        int bytes;
        const uint32_t flags = flags_of(s->settings->tables, character(p, to, &bytes));
        if (flags & T_UNSPACED) {
            if (start < p) shingle_word(s, hash_of(start, (size_t)(p - start), end));
            start = p;
            p += bytes;
            while (p < to && (flags_of(s->settings->tables, character(p, to, &bytes)) & T_COMBINING)) p += bytes;
            shingle_word(s, hash_of(start, (size_t)(p - start), end));
            start = p;
        } else {
            p += bytes;
        }
    }
    if (start < to) shingle_word(s, hash_of(start, (size_t)(to - start), end));
}

/* the lowest bit of each byte of w that is a space, and perhaps of bytes above the lowest one that is */
T_INLINE uint64_t spaces_in(uint64_t w) {
    const uint64_t x = w ^ 0x2020202020202020u;
    return (x - 0x0101010101010101u) & ~x & 0x8080808080808080u;
}

/* 16 bytes behind the text must be there */
static void shingles(shingler *s, span normal) {
    for (const uint8_t *p = normal.p; p < normal.end;) {
        const uint8_t *from = p;
        uint64_t h = 0, all = 0;
        for (;; p += 8) { /* the hash of the word, while its end is looked for */
            const uint64_t w = load(p), spaces = spaces_in(w);
            size_t n = spaces ? (size_t)__builtin_ctzll(spaces) / 8 : 8;
            if (n > (size_t)(normal.end - p)) n = (size_t)(normal.end - p);
            if (n == 8) {
                all |= w;
                h = hash_step(h, w);
                continue;
            }
            const uint64_t last = w & (((uint64_t)1 << 8 * n) - 1);
            all |= last;
            if (n) h = hash_step(h, last);
            p += n;
            break;
        }
        if (LIKELY(!(all & 0x8080808080808080u))) shingle_word(s, hash_end(h, (size_t)(p - from)));
        else shingle_wide(s, from, p, normal.end);
        ++p;
    }
    if (s->words && s->words < s->settings->shingle_words) shingle(s, s->ring, (int)s->words);
    s->flush(s);
}

int ar_text_sign(const ar_text_settings *settings, span normal, uint32_t *signature) {
    ar_minhash minhash;
    if (!ar_minhash_begin(&minhash, settings)) return 0;
    shingler s = {.settings = settings, .flush = to_minhash, .minhash = &minhash};
    shingles(&s, normal);
    for (int32_t i = 0; i < settings->n_hashes; ++i) signature[i] = (uint32_t)(minhash.lowest[i] >> 32);
    ar_minhash_end(&minhash);
    return 1;
}

int ar_text_signature(const ar_text_settings *settings, const uint8_t *text, size_t n, uint32_t *signature) {
    ar_text_result normal;
    if (ar_text_normalise(settings, text, n, &normal)) return -1;
    const uint8_t *p = normal.data;
    const int well = ar_text_sign(settings, (span){p, p + normal.count}, signature);
    ar_text_free(&normal);
    return well ? 0 : -1;
}

int ar_text_shingles(const ar_text_settings *settings, const uint8_t *text, size_t n, ar_text_result *hashes) {
    ar_text_result normal;
    hashes->data = NULL;
    hashes->count = 0;
    if (ar_text_normalise(settings, text, n, &normal)) return -1;
    const uint8_t *p = normal.data;
    shingler s = {.settings = settings, .flush = to_list, .all = hashes};
    shingles(&s, (span){p, p + normal.count});
    ar_text_free(&normal);
    if (s.failed) ar_text_free(hashes);
    return s.failed ? -1 : 0;
}
