/* Sets of 64-bit keys. */
#include "text_basics.h"

static int grow(key_set *set) {
    const size_t size = set->slots ? (set->mask + 1) * 2 : 512;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return 0;
    for (size_t i = 0; i < set->count; ++i) {
        size_t at = set->keys[i] & (size - 1);
        while (slots[at]) at = (at + 1) & (size - 1);
        slots[at] = (uint32_t)i + 1;
    }
    free(set->slots);
    set->slots = slots;
    set->mask = size - 1;
    return 1;
}

static int more_keys(key_set *set) {
    const size_t wanted = set->capacity ? set->capacity * 2 : 256;
    uint64_t *keys = realloc(set->keys, wanted * sizeof *keys);
    if (keys) set->keys = keys;
    uint32_t *counts = realloc(set->counts, wanted * sizeof *counts);
    if (counts) set->counts = counts;
    if (!keys || !counts) return 0;
    set->capacity = wanted;
    return 1;
}

uint32_t ar_key_number(key_set *set, uint64_t key) {
    if (UNLIKELY(2 * set->count >= set->mask) && !grow(set)) return UINT32_MAX;
    size_t at = key & set->mask;
    for (; set->slots[at]; at = (at + 1) & set->mask) {
        const uint32_t number = set->slots[at] - 1;
        if (LIKELY(set->keys[number] == key)) {
            set->counts[number]++;
            return number;
        }
    }
    if (UNLIKELY(set->count == set->capacity) && !more_keys(set)) return UINT32_MAX;
    set->keys[set->count] = key;
    set->counts[set->count] = 1;
    set->slots[at] = (uint32_t)++set->count;
    return (uint32_t)set->count - 1;
}

uint32_t ar_key_find(const key_set *set, uint64_t key) {
    if (!set->slots) return UINT32_MAX;
    for (size_t at = key & set->mask; set->slots[at]; at = (at + 1) & set->mask)
        if (set->keys[set->slots[at] - 1] == key) return set->slots[at] - 1;
    return UINT32_MAX;
}

void ar_key_free(key_set *set) {
    free(set->slots);
    free(set->keys);
    free(set->counts);
    memset(set, 0, sizeof *set);
}
