/* Language identification: supervised fastText models, quantised and pruned, with hierarchical softmax (lid.176.ftz).
 *
 * What a model gives is what fastText gives (Joulin et al. 2016; facebookresearch/fastText 0.9.2: dictionary.cc,
 * quantmatrix.cc, loss.cc), operation by operation; the file's format is theirs. A pruned model's table of n-grams is a
 * bitmap with ranks here, which fits into a processor's cache. */
#include <math.h>

#include "text_basics.h"

#define MAGIC 793712314
#define MOST_LABELS 4096
#define ABSENT UINT32_MAX
#define MOST_COUNT 1000000000000000

typedef struct {
    const uint8_t *name;
    uint32_t size, hash;
    int64_t count;
    int8_t is_label;
} entry;

typedef struct {
    int32_t left, right;
    int64_t count;
} tree_node;

struct ar_language_model {
    uint8_t *file;
    int32_t dim, bucket, minn, maxn;
    uint32_t entries, words, labels, mask;
    entry *names;
    uint32_t *slots; /* [mask + 1]: entry + 1, by the name's hash */
    uint64_t *kept;  /* a bit for every n-gram that was not pruned */
    uint32_t *ranks; /* bits before each word of `kept` */
    uint32_t *rows;  /* [rank]: row of the n-gram, counted behind the words */
    const uint8_t *codes, *norms;
    float *centroids, *norm_values; /* [dim / 2, 256, 2]; [256] */
    float *output;                  /* [labels, dim] */
    tree_node *tree;                /* [2 labels - 1] */
};
typedef struct ar_language_model model;

/* ------------------------------------------------------------------------------------------ reading */

typedef struct {
    const uint8_t *p, *end;
    int bad;
} reader;

static const uint8_t *take(reader *r, uint64_t size) {
    if (r->bad || size > (uint64_t)(r->end - r->p)) {
        r->bad = 1;
        return NULL;
    }
    const uint8_t *at = r->p;
    r->p += size;
    return at;
}

#define NUMBER(name, type) \
    static type name(reader *r) { \
        type value = 0; \
        const uint8_t *at = take(r, sizeof value); \
        if (at) memcpy(&value, at, sizeof value); \
        return value; \
    }
NUMBER(int32, int32_t)
NUMBER(int64, int64_t)
NUMBER(byte, uint8_t)

static float *floats(reader *r, uint64_t count) {
    const uint8_t *at = count < (1u << 28) ? take(r, count * sizeof(float)) : take(r, UINT64_MAX);
    float *values = at ? malloc(count * sizeof *values) : NULL;
    if (values) memcpy(values, at, count * sizeof *values);
    else r->bad = 1;
    return values;
}

static uint32_t fnv(uint32_t hash, uint8_t byte) { return (hash ^ (uint32_t)(int8_t)byte) * 16777619u; }
#define FNV 2166136261u

static int read_arguments(reader *r, model *m) {
    if (int32(r) != MAGIC || int32(r) != 12) return 0;
    int32_t a[12];
    for (int i = 0; i < 12; ++i) a[i] = int32(r);
    take(r, 8);
    m->dim = a[0], m->bucket = a[8], m->minn = a[9], m->maxn = a[10];
    const int one_word = a[5] == 1, hierarchical = a[6] == 1, supervised = a[7] == 3;
    return !r->bad && one_word && hierarchical && supervised && m->dim > 0 && m->dim <= 1024 && m->dim % 2 == 0 &&
           m->bucket > 0 && m->bucket <= 1 << 26 && m->minn >= 0 && m->maxn >= m->minn && m->maxn <= 64;
}

static int read_names(reader *r, model *m) {
    m->names = calloc(m->entries, sizeof *m->names);
    for (m->mask = 1; m->mask < 2 * m->entries; m->mask *= 2) {}
    m->slots = calloc(m->mask--, sizeof *m->slots);
    if (!m->names || !m->slots) return 0;
    for (uint32_t i = 0; i < m->entries; ++i) {
        entry *e = m->names + i;
        const uint8_t *zero = memchr(r->p, 0, (size_t)(r->end - r->p));
        if (!zero || zero - r->p > 1 << 16) return 0;
        e->name = r->p, e->size = (uint32_t)(zero - r->p), e->hash = FNV;
        for (uint32_t j = 0; j < e->size; ++j) e->hash = fnv(e->hash, e->name[j]);
        r->p = zero + 1;
        e->count = int64(r);
        e->is_label = byte(r) == 1;
        if (r->bad || e->is_label != (i >= m->words) || e->count < 0 || e->count >= MOST_COUNT) return 0;
        size_t at = e->hash & m->mask;
        while (m->slots[at]) at = (at + 1) & m->mask;
        m->slots[at] = i + 1;
    }
    return 1;
}

static int read_kept(reader *r, model *m, int64_t kept) {
    const size_t parts = ((size_t)m->bucket + 63) / 64;
    m->kept = calloc(parts, sizeof *m->kept);
    m->ranks = calloc(parts, sizeof *m->ranks);
    m->rows = calloc((size_t)kept, sizeof *m->rows);
    const uint8_t *pairs = take(r, (uint64_t)kept * 8);
    if (!m->kept || !m->ranks || !m->rows || !pairs) return 0;
    int32_t pair[2];
    for (int64_t i = 0; i < kept; ++i) {
        memcpy(pair, pairs + 8 * i, 8);
        if (pair[0] < 0 || pair[0] >= m->bucket || m->kept[pair[0] / 64] >> (pair[0] % 64) & 1) return 0;
        m->kept[pair[0] / 64] |= 1ull << (pair[0] % 64);
    }
    uint32_t rank = 0;
    for (size_t i = 0; i < parts; ++i) {
        m->ranks[i] = rank;
        rank += (uint32_t)__builtin_popcountll(m->kept[i]);
    }
    for (int64_t i = 0; i < kept; ++i) {
        memcpy(pair, pairs + 8 * i, 8);
        const uint64_t before = m->kept[pair[0] / 64] & ((1ull << (pair[0] % 64)) - 1);
        if (pair[1] < 0 || pair[1] >= kept) return 0;
        m->rows[m->ranks[pair[0] / 64] + (uint32_t)__builtin_popcountll(before)] = (uint32_t)pair[1];
    }
    return 1;
}

static int read_input(reader *r, model *m, int64_t kept) {
    if (byte(r) != 1) return 0; /* not quantised */
    const int has_norms = byte(r) == 1;
    const int64_t rows = int64(r), columns = int64(r);
    const int32_t size = int32(r);
    if (r->bad || !has_norms || columns != m->dim || rows < (int64_t)m->words + kept || rows > 1 << 26 ||
        size != rows * (m->dim / 2))
        return 0;
    m->codes = take(r, (uint64_t)size);
    const int32_t dim = int32(r), parts = int32(r), part = int32(r), last = int32(r);
    if (r->bad || dim != m->dim || part != 2 || last != 2 || parts != m->dim / 2) return 0;
    m->centroids = floats(r, (uint64_t)dim * 256);
    m->norms = take(r, (uint64_t)rows);
    for (int i = 0; i < 4; ++i)
        if (int32(r) != 1) return 0;
    m->norm_values = floats(r, 256);
    return !r->bad;
}

/* Huffman's tree of the labels, which the file has by falling counts */
static int grow_tree(model *m) {
    const int32_t n = (int32_t)m->labels;
    m->tree = malloc((size_t)(2 * n - 1) * sizeof *m->tree);
    if (!m->tree) return 0;
    for (int32_t i = 0; i < 2 * n - 1; ++i)
        m->tree[i] = (tree_node){-1, -1, i < n ? m->names[m->words + (uint32_t)i].count : MOST_COUNT};
    int32_t leaf = n - 1, node = n;
    for (int32_t i = n; i < 2 * n - 1; ++i) {
        int32_t least[2];
        for (int j = 0; j < 2; ++j)
            least[j] = leaf >= 0 && m->tree[leaf].count < m->tree[node].count ? leaf-- : node++;
        m->tree[i] = (tree_node){least[0], least[1], m->tree[least[0]].count + m->tree[least[1]].count};
    }
    return 1;
}

static int read_model(reader *r, model *m) {
    if (!read_arguments(r, m)) return 0;
    const int32_t entries = int32(r), words = int32(r), labels = int32(r);
    int64(r);
    const int64_t kept = int64(r);
    if (r->bad || words < 0 || labels < 1 || labels > MOST_LABELS || words > 1 << 24 || entries != words + labels ||
        kept < 1 || kept > m->bucket)
        return 0;
    m->entries = (uint32_t)entries, m->words = (uint32_t)words, m->labels = (uint32_t)labels;
    if (!read_names(r, m) || !read_kept(r, m, kept) || !read_input(r, m, kept)) return 0;
    if (byte(r) || int64(r) != labels || int64(r) != m->dim) return 0;
    m->output = floats(r, (uint64_t)labels * (uint64_t)m->dim);
    return !r->bad && grow_tree(m);
}

void ar_language_free(model *m) {
    if (!m) return;
    void *parts[] = {m->file, m->names, m->slots, m->kept, m->ranks, m->rows, m->centroids, m->norm_values, m->output,
                     m->tree, m};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; ++i) free(parts[i]);
}

model *ar_language_load(const uint8_t *file, size_t n) {
    model *m = calloc(1, sizeof *m);
    if (!m || !(m->file = malloc(n ? n : 1))) {
        free(m);
        return NULL;
    }
    memcpy(m->file, file, n);
    reader r = {m->file, m->file + n, 0};
    if (read_model(&r, m)) return m;
    ar_language_free(m);
    return NULL;
}

const char *ar_language_label(const model *m, int32_t label) {
    return label >= 0 && label < (int32_t)m->labels ? (const char *)m->names[m->words + (uint32_t)label].name : "";
}

/* ------------------------------------------------------------------------------------------ telling */

typedef struct {
    const model *m;
    float *hidden;
    int64_t rows;
} state;

static void add_row(state *s, uint32_t row) {
    const model *m = s->m;
    const float norm = m->norm_values[m->norms[row]];
    const int parts = m->dim / 2;
    const uint8_t *code = m->codes + (size_t)row * (size_t)parts;
    for (int i = 0; i < parts; ++i) {
        const float *c = m->centroids + ((size_t)i * 256 + code[i]) * 2;
        s->hidden[2 * i] += norm * c[0];
        s->hidden[2 * i + 1] += norm * c[1];
    }
    s->rows++;
}

static void add_ngram(state *s, uint32_t hash) {
    const model *m = s->m;
    const uint32_t at = hash % (uint32_t)m->bucket;
    const uint64_t bits = m->kept[at / 64], bit = 1ull << (at % 64);
    if (bits & bit)
        add_row(s, m->words + m->rows[m->ranks[at / 64] + (uint32_t)__builtin_popcountll(bits & (bit - 1))]);
}

#define GOES_ON(byte) (((byte)&0xc0) == 0x80)

/* n-grams of `word`, which has its marks < and > */
static void add_ngrams(state *s, const uint8_t *word, size_t size) {
    const model *m = s->m;
    for (size_t i = 0; i < size; ++i) {
        if (GOES_ON(word[i])) continue;
        uint32_t hash = FNV;
        size_t j = i;
        for (int n = 1; j < size && n <= m->maxn; ++n) {
            do hash = fnv(hash, word[j++]);
            while (j < size && GOES_ON(word[j]));
            if (n >= m->minn && !(n == 1 && (i == 0 || j == size))) add_ngram(s, hash);
        }
    }
}

static uint32_t find_name(const model *m, const uint8_t *name, size_t size) {
    uint32_t hash = FNV;
    for (size_t i = 0; i < size; ++i) hash = fnv(hash, name[i]);
    for (size_t at = hash & m->mask; m->slots[at]; at = (at + 1) & m->mask) {
        const entry *e = m->names + m->slots[at] - 1;
        if (e->hash == hash && e->size == size && !memcmp(e->name, name, size)) return m->slots[at] - 1;
    }
    return ABSENT;
}

/* `marked`: the word between < and >; 1 where it ends the line */
static int add_word(state *s, const uint8_t *marked, size_t size) {
    const int ends = size == 4 && !memcmp(marked + 1, "</s>", 4);
    const uint32_t name = find_name(s->m, marked + 1, size);
    if (name == ABSENT) {
        if (!ends && !(size >= 9 && !memcmp(marked + 1, "__label__", 9))) add_ngrams(s, marked, size + 2);
    } else if (name < s->m->words) {
        add_row(s, name);
        if (!ends && s->m->maxn > 0) add_ngrams(s, marked, size + 2);
    }
    return ends;
}

static int is_blank(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r') || !c; }

/* words up to the first line feed, and the end of the line */
static void add_line(state *s, const uint8_t *text, size_t n, uint8_t *marked) {
    size_t i = 0;
    marked[0] = '<';
    while (i < n && text[i] != '\n') {
        if (is_blank(text[i])) {
            ++i;
            continue;
        }
        size_t size = 0;
        while (i < n && !is_blank(text[i])) marked[++size] = text[i++];
        marked[size + 1] = '>';
        if (add_word(s, marked, size)) return;
    }
    memcpy(marked + 1, "</s>", 4);
    add_word(s, marked, 4);
}

static float std_log(float x) { return (float)log(x + 1e-5); }

static void descend(const state *s, int32_t node, float score, float least, int32_t *label, float *best) {
    if (score < least || (*label >= 0 && score < *best)) return;
    const model *m = s->m;
    const tree_node *t = m->tree + node;
    if (t->left < 0) {
        *label = node, *best = score;
        return;
    }
    const float *row = m->output + (size_t)(node - (int32_t)m->labels) * (size_t)m->dim;
    float f = 0;
    for (int i = 0; i < m->dim; ++i) f += row[i] * s->hidden[i];
    f = (float)(1. / (1 + expf(-f)));
    descend(s, t->left, score + std_log((float)(1.0 - f)), least, label, best);
    descend(s, t->right, score + std_log(f), least, label, best);
}

int32_t ar_language_of(const model *m, const uint8_t *text, size_t n, float *score) {
    float hidden[1024] = {0};
    uint8_t *marked = malloc(n + 8);
    if (!marked) return -2;
    state s = {m, hidden, 0};
    add_line(&s, text, n, marked);
    free(marked);
    *score = 0;
    if (!s.rows) return -1;
    const float share = (float)(1.0 / (double)s.rows);
    for (int i = 0; i < m->dim; ++i) hidden[i] *= share;
    int32_t label = -1;
    float best = 0;
    descend(&s, 2 * (int32_t)m->labels - 2, 0, std_log(0), &label, &best);
    if (label >= 0) *score = expf(best);
    return label;
}
