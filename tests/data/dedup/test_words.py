from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.dedup import words as words_module
from arriero.data.dedup.suffix import suffix_order, window_names
from arriero.data.dedup.words import anchors, characters_at, ngrams, words_of


def strings(text: str) -> list[str]:
    data = text.encode()
    found = words_of(text)
    return [data[start:end].decode() for start, end in zip(found.start, found.end, strict=True)]


@given(st.text(alphabet="ab c\n\té漢字。ก𝄞\u00a0\u3000-한국", max_size=60))
def test_words_are_what_lies_between_spaces_and_single_ideographs(text: str) -> None:
    plain: list[str] = []
    fresh = True
    for character in text:
        if character in " \n\t\u00a0\u3000":
            fresh = True
        elif character in "漢字。ก𝄞":
            plain.append(character)
            fresh = True
        else:
            plain = [*plain, character] if fresh else [*plain[:-1], plain[-1] + character]
            fresh = False
    assert strings(text) == plain


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(random.Random(0).choices(["word", "漢字", "x" * 70, "\n"], k=300))
    whole = words_of(text)
    monkeypatch.setattr(words_module, "_BLOCK", 64)
    pieces = words_of(text)
    assert (
        (whole.start == pieces.start).all()
        and (whole.hash == pieces.hash).all()
        and (whole.end == pieces.end).all()
    )


@given(st.lists(st.text(alphabet="abé漢", min_size=1, max_size=5), max_size=30))
def test_hashes_are_equal_just_where_words_are(given: list[str]) -> None:
    text = " ".join(given)
    hashes = words_of(text).hash.tolist()
    found = strings(text)
    assert len(set(zip(found, hashes, strict=True))) == len(set(found)) == len(set(hashes))


TOKENS = st.lists(st.integers(0, 3), max_size=60)


@given(TOKENS, st.integers(1, 12))
def test_ngrams_and_window_names_are_equal_just_where_windows_are(tokens: list[int], n: int) -> None:
    windows = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    for names in (ngrams(np.array(tokens, np.uint64), n), window_names(np.array(tokens, np.int64), n)):
        assert len(names) == len(windows)
        assert (
            len(set(zip(windows, names.tolist(), strict=True)))
            == len(set(windows))
            == len(set(names.tolist()))
        )


@given(st.lists(st.integers(-2, 2), max_size=40))
def test_the_suffix_array_is_that_of_sorting(tokens: list[int]) -> None:
    order = suffix_order(np.array(tokens, np.int64), max(1, len(tokens)))
    assert order.tolist() == sorted(range(len(tokens)), key=lambda i: tokens[i:])


@settings(max_examples=200)
@given(TOKENS, TOKENS, st.integers(2, 15), st.data())
def test_equal_spans_share_an_anchor(
    one: list[int], other: list[int], words: int, data: st.DataObject
) -> None:
    """The guarantee of winnowing, for any surroundings."""
    span = data.draw(st.lists(st.integers(0, 3), min_size=words, max_size=words))
    found = []
    for before in (one, other):
        tokens = np.array(before + span + other, np.uint64)
        k, places, hashes = anchors(tokens, words)
        inside = (places >= len(before)) & (places + k <= len(before) + words)
        found.append(set(zip((places[inside] - len(before)).tolist(), hashes[inside].tolist(), strict=True)))
        assert set(hashes.tolist()) <= set(ngrams(tokens, k).tolist())
    assert found[0] & found[1]


def test_anchors_are_few() -> None:
    tokens = np.random.default_rng(0).integers(0, 1 << 60, 20_000).astype(np.uint64)
    _, places, _ = anchors(tokens, 50)
    assert len(places) / len(tokens) == pytest.approx(2 / 27, rel=0.1)  # density 2 / (w + 1)


@given(st.text(max_size=30))
def test_places_in_characters(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass") if not any(0xD800 <= ord(c) < 0xE000 for c in text) else b""
    for place in range(len(data) + 1):
        try:
            expected = len(data[:place].decode())
        except UnicodeDecodeError:
            continue
        assert characters_at(text, np.array([place]))[0] == expected
