/* How a chunk between white space is cut into words: spaCy's English rules (Honnibal et al., MIT licence), written out. */
#include "text_peel.h"

static void token(word_pass *pass, const chunk *k, int from, int to) {
    uint32_t any = 0, all = ~0u;
    for (int i = from; i < to; ++i) {
        any |= k->flags[i];
        all &= k->flags[i];
    }
    sentence_token(pass, kind_of_word(to - from, all));
    if (pass->words && !pass->settings->by_space) ar_text_add_word(pass, k->at[from], k->at[to], to - from, any, all);
}

static uint32_t special(const word_pass *pass, const chunk *k, int from, int to) {
    const size_t bytes = (size_t)(k->at[to] - k->at[from]);
    if (bytes > pass->tables->special_bytes) return 0;
    return special_of(pass->tables, hash_of(k->at[from], bytes, pass->end));
}

/* the last stretch that was looked up */
typedef struct {
    int from, to, found;
} memory;

static int exception(const word_pass *pass, const chunk *k, int from, int to, memory *last) {
    if (from == last->from && to == last->to) return last->found;
    *last = (memory){from, to, from < to ? (int)(special(pass, k, from, to) & 0xffffff) : 0};
    return last->found;
}

static inline int dots_from(const chunk *k, int at, int to) {
    int n = 0;
    while (at + n < to && k->c[at + n] == '.') ++n;
    return n;
}

static int prefix(const chunk *k, int from, int to) {
    const uint32_t c = k->c[from], next = from + 1 < to ? k->c[from + 1] : 0;
    if (k->flags[from] & (T_PREFIX | T_ICON)) return 1;
    if (c == '+') return !(next >= '0' && next <= '9');
    if (c == '.') {
        const int dots = dots_from(k, from, to);
        return dots > 1 ? dots : 0;
    }
    if (c == 'U') return next == 'S' && from + 2 < to && k->c[from + 2] == '$' ? 3 : 0;
    return (c == 'C' || c == 'A') && next == '$' ? 2 : 0;
}

static int unit(const word_pass *pass, const chunk *k, int from, int to) {
    int longest = 0;
    for (int i = to - 2; i >= from && i >= to - 9; --i) /* the longest unit has 8 characters */
        if ((k->flags[i] & T_ASCII_DIGIT) && (special(pass, k, i + 1, to) & T_UNIT)) longest = to - 1 - i;
    return longest;
}

static int dot_suffix(const chunk *k, int from, int to) {
    int dots = 1;
    while (to - 1 - dots >= from && k->c[to - 1 - dots] == '.') ++dots;
    if (dots > 1) return dots;
    if (to - 2 < from) return 0;
    const uint32_t flags = k->flags[to - 2], c = k->c[to - 2] | 0x20;
    if (flags & T_BEFORE_DOT) return 1;
    if (to - 3 < from) return 0;
    return ((c == 'f' || c == 'c' || c == 'k') && k->c[to - 2] < 128 && k->c[to - 3] == 0xb0) ||
           (flags & k->flags[to - 3] & T_EN_UPPER) != 0;
}

static inline int larger(int a, int b) { return a > b ? a : b; }

static int suffix(const word_pass *pass, const chunk *k, int from, int to) {
    if (from >= to) return 0;
    const uint32_t c = k->c[to - 1], flags = k->flags[to - 1];
    const uint32_t before = to - 2 >= from ? k->c[to - 2] : 0;
    const int digit_before = to - 2 >= from && (k->flags[to - 2] & T_ASCII_DIGIT);
    int n = flags & (T_SUFFIX | T_ICON) ? 1 : 0;
    if (c == '.') n = larger(n, dot_suffix(k, from, to));
    if (c == 0x2026 && before == 0x2026) n = 2;
    if ((c | 0x20) == 's' && c < 128 && (before == '\'' || before == 0x2019)) n = 2;
    if ((c == '+' || (flags & T_CURRENCY)) && digit_before) n = larger(n, 1);
    if (c == '$') {
        const int two = to - 3 >= from && (before == 'C' || before == 'A') && (k->flags[to - 3] & T_ASCII_DIGIT);
        const int three = to - 4 >= from && before == 'S' && k->c[to - 3] == 'U' && (k->flags[to - 4] & T_ASCII_DIGIT);
        n = larger(n, three ? 3 : two ? 2 : 0);
    }
    return larger(n, unit(pass, k, from, to));
}

static inline int host_character(uint32_t c) {
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z' && c < 128) || (c >= 0xa1 && c <= 0xffff);
}

/* host.name.tld, then :port, then / ? # and anything */
static int host(const chunk *k, int from, int to) {
    int at = from, label = from, labels = 0;
    for (;; ++at) {
        const uint32_t c = at < to ? k->c[at] : 0;
        if (c && (host_character(c) || c == '-' || c == '_')) continue;
        if (c != '.') break;
        if (at == label || at - label > 64 || !host_character(k->c[label]) || !host_character(k->c[at - 1])) return 0;
        label = at + 1;
        labels++;
    }
    if (!labels || at - label < 2 || at - label > 63) return 0;
    for (int i = label; i < at; ++i)
        if (!(k->flags[i] & T_EN_LOWER)) return 0;
    if (at < to && k->c[at] == ':') {
        int digits = 0;
        while (at + 1 + digits < to && (k->flags[at + 1 + digits] & T_DIGIT)) ++digits;
        if (digits < 2 || digits > 5) return 0;
        at += 1 + digits;
    }
    return at == to || k->c[at] == '/' || k->c[at] == '?' || k->c[at] == '#';
}

static int address_from(const chunk *k, int from, int to) {
    for (int i = to - 1; i > from; --i) /* user@ before the host */
        if (k->c[i] == '@' && host(k, i + 1, to)) return 1;
    return host(k, from, to);
}

static int address(const chunk *k, int from, int to) {
    int at = from;
    while (at < to && ((k->flags[at] & T_ALNUM) || k->c[at] == '_' || k->c[at] == '+' || k->c[at] == '-' || k->c[at] == '.'))
        ++at;
    const int scheme = at - from >= 2 && at + 2 < to && k->c[at] == ':' && k->c[at + 1] == '/' && k->c[at + 2] == '/';
    return (scheme && address_from(k, at + 3, to)) || address_from(k, from, to);
}

static inline int flag_at(const chunk *k, int at, int to, uint32_t flags) { return at < to && (k->flags[at] & flags); }

/* how long the hyphen at `at` is, with a letter behind it; 0: none */
static int hyphen(const chunk *k, int at, int to) {
    const uint32_t c = k->c[at];
    const int most = c == '-' ? 3 : c == 0x2014 ? 2 : c == 0x2013 || c == '~' ? 1 : 0;
    for (int n = 1; n <= most && at + n <= to && k->c[at + n - 1] == c; ++n)
        if (flag_at(k, at + n, to, T_EN_ALPHA)) return n;
    return 0;
}

static int infix(const chunk *k, int at, int from, int to) {
    const uint32_t c = k->c[at], flags = k->flags[at];
    if (!(flags & T_ACTIVE)) return 0;
    if (c == '.') {
        const int dots = dots_from(k, at, to);
        if (dots > 1) return dots;
    }
    if (c == 0x2026 || (flags & T_ICON)) return 1;
    if (at == from) return 0;
    const uint32_t before = k->flags[at - 1];
    if ((c == '+' || c == '-' || c == '*' || c == '^') && (before & T_ASCII_DIGIT) && at + 1 < to &&
        ((k->flags[at + 1] & T_ASCII_DIGIT) || k->c[at + 1] == '-'))
        return 1;
    if (c == '.') return (before & (T_EN_LOWER | T_QUOTE)) && flag_at(k, at + 1, to, T_EN_UPPER | T_QUOTE);
    if (c == ',') return (before & T_EN_ALPHA) && flag_at(k, at + 1, to, T_EN_ALPHA);
    if (!(before & (T_EN_ALPHA | T_ASCII_DIGIT))) return 0;
    if (c == ':' || c == '<' || c == '>' || c == '=' || c == '/') return flag_at(k, at + 1, to, T_EN_ALPHA);
    return hyphen(k, at, to);
}

static void between(word_pass *pass, const chunk *k, int from, int to) {
    int start = from;
    for (int at = from; at < to;) {
        const int n = infix(k, at, from, to);
        if (!n) {
            ++at;
            continue;
        }
        if (at != from) {
            if (at != start) token(pass, k, start, at);
            token(pass, k, at, at + n);
            start = at + n;
        }
        at += n;
    }
    if (start < to) token(pass, k, start, to);
}

void ar_text_exception(word_pass *pass, const chunk *k, int from, int to, int found) {
    const int words = found & 0xff, first = found >> 8 & 0xff, second = found >> 16 & 0xff;
    if (words == 1) {
        token(pass, k, from, to);
        return;
    }
    token(pass, k, from, from + first);
    if (words == 2) {
        token(pass, k, from + first, to);
        return;
    }
    token(pass, k, from + first, from + first + second);
    token(pass, k, from + first + second, to);
}

/* spaCy's Tokenizer._split_affixes and _attach_tokens */
void ar_text_peel(word_pass *pass, const chunk *k) {
    int suffixes[MOST], n_suffixes = 0; /* where each begins */
    int from = 0, to = k->n;
    const int last = to;
    memory known = {-1, -1, 0};
    while (from < to && !exception(pass, k, from, to, &known)) {
        const int pre = prefix(k, from, to);
        if (pre && exception(pass, k, from + pre, to, &known)) {
            token(pass, k, from, from + pre);
            from += pre;
            break;
        }
        const int suf = suffix(pass, k, from + pre, to);
        if (suf && exception(pass, k, from, to - suf, &known)) {
            suffixes[n_suffixes++] = to -= suf;
            break;
        }
        if (!pre && !suf) break;
        if (pre) token(pass, k, from, from + pre);
        from += pre;
        if (suf) suffixes[n_suffixes++] = to -= suf;
    }
    if (from < to) {
        const int found = exception(pass, k, from, to, &known);
        if (found) ar_text_exception(pass, k, from, to, found);
        else if (address(k, from, to)) token(pass, k, from, to);
        else between(pass, k, from, to);
    }
    while (n_suffixes) {
        const int start = suffixes[--n_suffixes];
        token(pass, k, start, n_suffixes ? suffixes[n_suffixes - 1] : last);
    }
}
