"""The tables say what Unicode 14 says."""

from __future__ import annotations

import sys
import unicodedata

import numpy as np
import pytest

from arriero.data.facts.fallback import flags as f
from arriero.data.facts.hashing import hash_of, scramble
from arriero.data.facts.tables import english, tables


@pytest.mark.skipif(
    unicodedata.unidata_version != "14.0.0", reason="this Python has another version of Unicode"
)
def test_flags_are_those_of_python() -> None:
    codes = np.arange(0x110000, dtype=np.uint32)
    flags = tables().flags[f.places(codes)]
    for flag, says in [
        (f.ALPHA, str.isalpha), (f.ALNUM, str.isalnum), (f.SPACE, str.isspace),
        (f.DIGIT, lambda c: unicodedata.category(c) == "Nd"), (f.UPPER, lambda c: unicodedata.category(c) == "Lu"),
        (f.PUNCT, lambda c: unicodedata.category(c)[0] == "P"), (f.COMBINING, lambda c: unicodedata.category(c)[0] == "M"),
    ]:  # fmt: skip
        expected = np.fromiter((says(chr(code)) for code in range(sys.maxunicode + 1)), bool, 0x110000)
        np.testing.assert_array_equal((flags & flag) != 0, expected)


def test_white_space_and_line_ends_are_those_of_strings() -> None:
    assert f.split_lines("a\r\nb\x0bc\x85\u2028d\r\re\n") == "a\r\nb\x0bc\x85\u2028d\r\re\n".splitlines()
    blank = "\u3000\x1f "
    assert f.strip(f"{blank}a b\u00a0\n") == "a b"


def test_folding() -> None:
    fold, lower = tables().fold, tables().lower
    for char, folded, lowered in [
        ("É", "e", "é"),
        ("ß", "ß", "ß"),
        ("Ж", "ж", "ж"),
        ("٣", "0", "0"),
        ("K", "k", "k"),
    ]:
        place = f.places(f.code_points(char))[0]
        assert chr(fold[place] or ord(char)) == folded and chr(lower[place] or ord(char)) == lowered


def test_exceptions_and_hashes() -> None:
    assert english().exceptions["don't"] == (2, 3) and "km" in english().units
    keys = tables().special_keys
    for text in ("don't", "km", "e.g."):
        assert hash_of(text.encode()) in keys.tolist()
    assert hash_of(b"") == 0 and hash_of(b"a") != hash_of(b"a\0")
    assert (
        int(scramble(np.array([1], np.uint64))[0]) == 0x5692161D100B05E5
    )  # SplitMix64's published constants
