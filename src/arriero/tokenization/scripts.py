"""Which script a character belongs to, from the Unicode character database that Python brings."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

COMMON = "Common"
WITHOUT_SPACES = frozenset(
    {"Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Bopomofo", "Yi"}
)
"""Scripts whose words are not set apart by spaces; Python knows no dictionary, so their "words" are characters."""

_QUALIFIERS = {
    "FULLWIDTH",
    "HALFWIDTH",
    "MODIFIER",
    "SUPERSCRIPT",
    "SUBSCRIPT",
    "COMBINING",
    "SMALL",
    "SQUARED",
    "CIRCLED",
}
_NAMES = {
    "Cjk": "Han",
    "Ideographic": "Han",
    "Katakana-hiragana": "Katakana",
    "Canadian": "Canadian Syllabics",
}


@lru_cache(maxsize=65536)
def script_of(character: str) -> str:
    """Script of a letter or mark, "Common" for everything else (digits, punctuation, spaces, symbols).

    The Unicode name of a letter begins with its script, in all scripts but a few.
    """
    if unicodedata.category(character)[0] not in "LM":
        return COMMON
    words = unicodedata.name(character, "").split()
    while words and words[0] in _QUALIFIERS:
        words.pop(0)
    if not words or words[0] in ("LETTER", "VOICED", "VARIATION", "GRAVE", "ACUTE"):
        return COMMON
    name = words[0].capitalize()
    return _NAMES.get(name, name)
