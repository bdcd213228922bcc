"""Lines: how they end, what C4's rules say of them, their normalised form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.fallback import flags as f
from arriero.data.facts.fallback.words import LineCounts, count_line, token_figures
from arriero.data.facts.hashing import hash_of
from arriero.data.facts.tables import tables
from arriero.native.text import LINE

# fmt: off
END_MARK, ELLIPSIS, TERMINAL, BULLET, CURLY, LOREM, JAVASCRIPT, POLICY, LONG_WORD, C4, C4_OPEN = (
    1 << bit for bit in range(11)
)
# fmt: on
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)  # fmt: skip
_CONTENT = LOREM | JAVASCRIPT | CURLY | POLICY | END_MARK
_MOST_WORD = 1000


def lower_ascii(text: str) -> str:
    """With ASCII's letters in lower case."""
    return text.encode().lower().decode()


def ends(line: str) -> int:
    """END_MARK, ELLIPSIS, TERMINAL and BULLET of a line."""
    if not line:
        return 0
    found = END_MARK if line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...") else 0
    found |= ELLIPSIS if line.endswith(("...", "…")) else 0
    found |= TERMINAL if f.flags_of(line[-1])[0] & f.TERMINAL else 0
    return found | (BULLET if line.startswith(("-", "•")) else 0)


def phrases(line: str) -> int:
    """LOREM, JAVASCRIPT, POLICY and CURLY of a line."""
    low = lower_ascii(line)
    found = LOREM if "lorem ipsum" in low else 0
    found |= JAVASCRIPT if "javascript" in low else 0
    found |= POLICY if any(policy in low for policy in _POLICIES) else 0
    return found | (CURLY if "{" in line else 0)


@cache
def _citation() -> re.Pattern[str]:
    return re.compile(rf"\[[{f.digits()}]*\]|\[edit\]|\[citation needed\]")


def judge(line: str, counts: LineCounts) -> tuple[int, int]:
    """All flags of a line without blank ends, and the sentences in it with the marks of citations taken out."""
    long_word = LONG_WORD if any(len(token) > _MOST_WORD for token in counts.tokens) else 0
    flags, sentences = ends(line) | phrases(line) | long_word, counts.sentences
    bare = _citation().sub("", line) if "[" in line else line
    if bare != line:
        flags = flags & ~_CONTENT | phrases(bare) | ends(bare) & END_MARK
        sentences = count_line(bare, False, whole=True).sentences
    if not flags & (LONG_WORD | LOREM | JAVASCRIPT | CURLY | POLICY) and len(counts.tokens) > 2:
        flags |= C4_OPEN | (C4 if flags & END_MARK else 0)
    return flags, sentences


def normal_line(line: str) -> str:
    """As CCNet compares lines: lower case, digits as 0, without punctuation and control characters; and one space for
    white space, none at the ends."""
    codes = f.code_points(line)
    mapped = tables().lower[f.places(codes)].astype(np.int64)
    mapped = np.where(mapped == 0, codes, mapped)
    text = "".join(map(chr, mapped[mapped >= 0].tolist()))
    return " ".join(part for part in text.split(" ") if part)


def lines(data: bytes, paragraphs: bool) -> NDArray[np.void]:
    """Rows of :data:`arriero.native.text.LINE`."""
    text = data.decode()
    return np.array([_row(start, piece) for start, piece in _pieces(text, paragraphs)], LINE)


def _pieces(text: str, paragraphs: bool) -> Iterator[tuple[int, str]]:
    position = 0
    for separator in re.finditer("\n{2,}|\n\\Z|\\A\n" if paragraphs else "\n", text):
        if not paragraphs or separator.start() > position:
            yield position, text[position : separator.start()]
        position = separator.end()
    if not paragraphs or position < len(text):
        yield position, text[position:]


def _row(start: int, piece: str) -> tuple[int, ...]:
    normal = normal_line(piece)
    bare = f.strip(piece)
    counts = count_line(bare, False)
    flags, sentences = judge(bare, counts)
    figures = [token_figures(token) for token in counts.tokens]
    return (
        start, start + len(piece), hash_of(normal.encode()) if normal else 0, len(counts.tokens),
        max(map(len, counts.tokens), default=0), counts.sentences, sum(each.letters for each in figures),
        sum(each.upper for each in figures), sum(each.digits for each in figures), flags, sentences,
    )  # fmt: skip
