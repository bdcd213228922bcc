"""What the characters of a text give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.fallback import flags as f

_LETTERS, _DIGITS, _FEEDS, _SPACES, _WIDE, _OTHERS = range(6)


def count_characters(text: str) -> dict[str, int]:
    """Counters of characters, by name."""
    codes, flags = f.code_points(text), f.flags_of(text)

    def having(flag: int) -> int:
        return int(np.count_nonzero(flags & flag))

    curly = text.count("{") + text.count("}")
    return {
        "characters": len(text),
        "letters": having(f.ALPHA),
        "upper": having(f.UPPER),
        "digits": having(f.DIGIT),
        "alphanumeric": having(f.ALNUM),
        "punctuation": having(f.PUNCT),
        "symbols": having(f.SYMBOL),
        "whitespace": having(f.SPACE),
        "control_characters": having(f.CONTROL),
        "non_ascii": int(np.count_nonzero(codes > 127)),
        "newlines": text.count("\n"),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("…"),
        "curly_brackets": curly,
        "parentheses": curly + sum(map(text.count, "()[]<>")),
        "encoded_tokens": _encoded_tokens(codes, flags),
        "longest_run": _longest_run(codes, flags),
        "xml_header": int("<?xml version=" in text[:100]),
    }


def _lengths(same: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of runs, from whether each character goes on with the one before it."""
    starts = np.flatnonzero(~same)
    return starts, np.diff(np.append(starts, len(same)))


def _encoded_tokens(codes: NDArray[np.uint32], flags: NDArray[np.uint32]) -> int:
    kinds = np.select(
        [(flags & f.ALPHA) != 0, (flags & f.DIGIT) != 0, codes == 10, (flags & f.SPACE) != 0],
        [_LETTERS, _DIGITS, _FEEDS, np.where(codes < 128, _SPACES, _WIDE)],
        _OTHERS,
    )
    same = np.zeros(len(codes), bool)
    same[1:] = (kinds[1:] == kinds[:-1]) & ((kinds[1:] != _OTHERS) | (codes[1:] == codes[:-1]))
    starts, lengths = _lengths(same)
    kinds = kinds[starts]
    each = np.select(
        [kinds == _LETTERS, kinds == _DIGITS, kinds == _FEEDS, kinds == _SPACES, kinds == _WIDE],
        [(lengths + 5) // 6, (lengths + 2) // 3, 1, lengths > 1, lengths],
        (lengths + 3) // 4,
    )
    return int(each.sum())


def _longest_run(codes: NDArray[np.uint32], flags: NDArray[np.uint32]) -> int:
    same = np.zeros(len(codes), bool)
    same[1:] = codes[1:] == codes[:-1]
    starts, lengths = _lengths(same)
    solid = lengths[(flags[starts] & f.SPACE) == 0]
    return int(solid.max()) if solid.size else 0
