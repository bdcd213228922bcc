"""Properties of characters, from the tables that the kernel has as well."""

from __future__ import annotations

import re
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.tables import tables

# fmt: off
ALPHA, UPPER, DIGIT, ALNUM, PUNCT, SYMBOL, SPACE, BREAK, MARK, TERMINAL, SENTENCE, UNSPACED, PREFIX, SUFFIX, EN_ALPHA, \
    EN_LOWER, EN_UPPER, QUOTE, ICON, BEFORE_DOT, CURRENCY, CONTROL, ACTIVE, COMBINING, ASCII_DIGIT = (
    1 << bit for bit in range(25)
)
# fmt: on


def code_points(text: str) -> NDArray[np.uint32]:
    """uint32[characters]."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint32)


def places(codes: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where the characters stand in the tables."""
    return tables().pages[codes >> 7].astype(np.int64) * 128 + (codes & 127)


def flags_of(text: str) -> NDArray[np.uint32]:
    """uint32[characters]."""
    return tables().flags[places(code_points(text))]


@lru_cache(maxsize=1 << 16)
def flag_list(word: str) -> tuple[int, ...]:
    """The same for a word, kept for the next time that it comes."""
    return tuple(flags_of(word).tolist())


@cache
def characters_with(flag: int) -> str:
    """All characters that have a property."""
    codes = np.arange(0x110000, dtype=np.uint32)
    return "".join(map(chr, codes[(tables().flags[places(codes)] & flag) != 0].tolist()))


@cache
def line_break() -> re.Pattern[str]:
    """What ends a line for ``str.splitlines``."""
    return re.compile(f"\r\n|[{re.escape(characters_with(BREAK))}]")


@cache
def white_space() -> re.Pattern[str]:
    """One or more characters of white space."""
    return re.compile(f"[{re.escape(characters_with(SPACE))}]+")


@cache
def digits() -> str:
    """All decimal digits."""
    return characters_with(DIGIT)


def strip(text: str) -> str:
    """Without white space at its ends."""
    return text.strip(characters_with(SPACE))


def split_lines(text: str) -> list[str]:
    """As ``str.splitlines``."""
    found = line_break().split(text)
    return found if found[-1] else found[:-1]
