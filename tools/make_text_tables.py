"""Make ``src/arriero/data/facts/tables.npz`` and ``english.txt``: what the facts know of Unicode and of English words.

Run it under the Python whose Unicode version is wanted (3.11: Unicode 14), with spaCy 3.8 and datatrove 0.10 there, whose
constants (both under free licences: MIT, Apache-2.0) it restates. The tables are committed, so that the facts of a
text do not change with the Python that counts them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION
from spacy.attrs import ORTH
from spacy.lang import char_classes as classes
from spacy.lang.en import English
from spacy.pipeline import Sentencizer

FOLDER = Path(__file__).parent.parent / "src" / "arriero" / "data" / "facts"
PAGE = 128
NOTICE = "# of spaCy's English tokenizer, (c) ExplosionAI GmbH and others, MIT licence"
# fmt: off
ALPHA, UPPER, DIGIT, ALNUM, PUNCT, SYMBOL, SPACE, BREAK, MARK, TERMINAL, SENTENCE, UNSPACED, PREFIX, SUFFIX, EN_ALPHA, \
    EN_LOWER, EN_UPPER, QUOTE, ICON, BEFORE_DOT, CURRENCY, CONTROL, ACTIVE, COMBINING, ASCII_DIGIT = (
    1 << bit for bit in range(25)
)
# fmt: on
UNSPACED_RANGES = [
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x3005, 0x3007),
    (0x3031, 0x3035),
    (0x303B, 0x303C),
    (0x3041, 0x318F),
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x16FE0, 0x18CFF),
    (0x1B000, 0x1B2FF),
    (0x20000, 0x3FFFF),
]  # fmt: skip
"""Thai, Lao, Burmese, Khmer, Tai, Han, Kana, Bopomofo; Hangul, which has spaces, is between them and left out."""
HANGUL = (0x3130, 0x318F)


def main() -> None:
    values = [describe(chr(code)) for code in range(0x110000)]
    columns = np.array(values, np.int64)
    pages, index = np.unique(columns.reshape(-1, PAGE * 3), axis=0, return_inverse=True)
    first = index.reshape(-1)[0]
    order = np.arange(len(pages))
    order[0], order[first] = first, 0  # ASCII is page 0
    pages = pages[order].reshape(-1, 3)
    np.savez_compressed(
        FOLDER / "tables.npz",
        unicode=np.frombuffer(unicodedata.unidata_version.encode(), np.uint8),
        pages=order[index.reshape(-1)].astype(np.uint16),
        flags=pages[:, 0].astype(np.uint32),
        fold=pages[:, 1].astype(np.int32),
        lower=pages[:, 2].astype(np.int32),
    )
    write_english()


def write_english() -> None:
    """Exceptions as ``e`` and their words, units as ``u``, with one space between."""
    rules = English().tokenizer.rules
    lines = [
        "e " + " ".join(part[ORTH] for part in parts) for text, parts in rules.items() if not text.isspace()
    ]
    lines += ["u " + unit for unit in dict.fromkeys(classes.LIST_UNITS)]
    (FOLDER / "english.txt").write_text("\n".join([NOTICE, *sorted(lines)]) + "\n", "utf-8")


def in_class(text: str) -> re.Pattern[str]:
    return re.compile(f"[{text}]")


EN = {flag: in_class(text) for flag, text in [
    (EN_ALPHA, classes.ALPHA), (EN_LOWER, classes.ALPHA_LOWER), (EN_UPPER, classes.ALPHA_UPPER),
    (QUOTE, classes.CONCAT_QUOTES), (ICON, classes.CONCAT_ICONS),
    (BEFORE_DOT, r"0-9{al}{e}{p}(?:{q})".format(al=classes.ALPHA_LOWER, e=r"%²\-\+", p=classes.PUNCT,
                                               q=classes.CONCAT_QUOTES)),
]}  # fmt: skip
AFFIXES = {
    text.replace("\\", "")
    for text in classes.LIST_PUNCT + classes.LIST_QUOTES
    if len(text.replace("\\", "")) == 1
}
AFFIXES.add("…")
CURRENCIES = {text.replace("\\", "") for text in classes.LIST_CURRENCY}
PREFIXES = AFFIXES | {"§", "%", "=", "—", "–"} | {text for text in CURRENCIES if len(text) == 1}
SUFFIXES = AFFIXES | {"—", "–"}
OTHER_ACTIVE = set("+-*^.,~:<>=/'’sS\\–—") - set("sS\\")
SENTENCE_ENDS = set(Sentencizer.default_punct_chars)


def describe(char: str) -> tuple[int, int, int]:
    """Flags, folded character, lower-case character."""
    category = unicodedata.category(char)
    flags = 0
    for flag, yes in [
        (ALPHA, char.isalpha()), (UPPER, category == "Lu"), (DIGIT, category == "Nd"), (ALNUM, char.isalnum()),
        (PUNCT, category[0] == "P"), (SYMBOL, category[0] == "S"), (SPACE, char.isspace()),
        (BREAK, len(f"a{char}b".splitlines()) > 1), (MARK, char in PUNCTUATION_SET),
        (TERMINAL, char in TERMINAL_PUNCTUATION), (SENTENCE, char in SENTENCE_ENDS), (UNSPACED, unspaced(char)),
        (PREFIX, char in PREFIXES), (SUFFIX, char in SUFFIXES), (CURRENCY, char in CURRENCIES),
        (CONTROL, (category == "Cc" and not char.isspace()) or char == "\ufffd"),
        (COMBINING, category[0] == "M"), (ASCII_DIGIT, char in "0123456789"),
        *((flag, pattern.match(char) is not None) for flag, pattern in EN.items()),
    ]:  # fmt: skip
        flags |= flag * bool(yes)
    if flags & (PREFIX | SUFFIX | ICON | CURRENCY) or char in OTHER_ACTIVE:
        flags |= ACTIVE
    return flags, stored(char, folded(char, category)), stored(char, lowered(char, category))


def stored(char: str, code: int) -> int:
    """0: the character itself; -1: nothing; else the character in its place. So that most pages are equal."""
    return 0 if code == ord(char) else code or -1


def unspaced(char: str) -> bool:
    code = ord(char)
    return (
        any(first <= code <= last for first, last in UNSPACED_RANGES)
        and not HANGUL[0] <= code <= HANGUL[1]
        and unicodedata.category(char)[0] in "LM"
    )


def one(text: str, otherwise: str) -> str:
    """``text`` where it is one character, else what it would replace."""
    return text if len(text) == 1 else otherwise


def base(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def folded(char: str, category: str) -> int:
    """Of the normalised text: lower case, without diacritics; '0' a digit, ' ' what separates, 0 for nothing."""
    if category == "Nd":
        return ord("0")
    if (
        char.isspace()
        or category[0] == "P"
        or category == "Cc"
        or char in PUNCTUATION_SET - TERMINAL_PUNCTUATION
    ):
        return ord(" ")
    if category in ("Mn", "Cf", "Cs"):
        return 0
    if 0xAC00 <= ord(char) <= 0xD7A3:
        return ord(char)  # a syllable of Hangul stays whole
    return ord({"ς": "σ"}.get(char) or one(base(char.lower()), char))


def lowered(char: str, category: str) -> int:
    """Of CCNet's normalised line: lower case; '0' a digit, ' ' white space, 0 for nothing."""
    if category == "Nd":
        return ord("0")
    if char.isspace():
        return ord(" ")
    if category[0] == "P" or category in ("Cc", "Cf", "Cs"):
        return 0
    return ord({"ς": "σ"}.get(char) or one(char.lower(), one(base(char.lower()), char)))


if __name__ == "__main__":
    assert sys.version_info[:2] == (3, 11), "Unicode 14 is pinned"
    main()
