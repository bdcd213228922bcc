/* A page before a parser sees it: is it UTF-8, and how deep do its tags nest at the most. */
#include "text_basics.h"

int ar_text_is_utf8(const uint8_t *text, size_t n) {
    const uint8_t *p = text, *const end = text + n;
    while (p < end) {
        uint64_t eight;
        while (end - p >= 8 && (memcpy(&eight, p, 8), !(eight & 0x8080808080808080ull))) p += 8;
        if (p == end) break;
        int bytes = 1;
        if (*p >= 0x80) {
            wide_character(p, end, &bytes);
            if (bytes == 1) return 0;
        }
        p += bytes;
    }
    return 1;
}

static uint32_t letter(const uint8_t *p, const uint8_t *end) {
    const uint32_t c = p < end ? *p | 0x20u : 0;
    return c >= 'a' && c <= 'z' ? c - 'a' + 1 : 0;
}

int64_t ar_page_depth(const uint8_t *page, size_t n, const uint8_t *nests) {
    const uint8_t *const end = page + n;
    int32_t *still = calloc(1 << 15, sizeof *still);
    if (!still) return -1;
    int64_t running = 0, floor = 0, deepest = 0, unclosed = 0;
    for (const uint8_t *p = page; p < end && (p = memchr(p, '<', (size_t)(end - p)));) {
        const int closes = ++p < end && *p == '/';
        const uint8_t *name = p + closes;
        const uint32_t first = letter(name, end), second = letter(name + 1, end);
        const uint32_t code = first << 10 | second << 5 | (second ? letter(name + 2, end) : 0);
        if (!nests[code]) continue;
        running += closes ? -1 : 1;
        still[code] += closes ? -1 : 1;
        if (running < floor) floor = running;
        if (running - floor > deepest) deepest = running - floor;
    }
    for (size_t i = 0; i < 1 << 15; ++i) unclosed += still[i] > 0 ? still[i] : 0;
    free(still);
    return deepest > unclosed ? deepest : unclosed;
}
