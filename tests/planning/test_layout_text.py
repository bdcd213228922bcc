"""Layouts and numbers in words: read as meant, refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost.cut import Cut
from arriero.errors import ArrieroError
from arriero.planning.estimate.layout_text import WORDS, layout_words, parse_count, parse_layout


@pytest.mark.parametrize(
    "text",
    ["data 2 tensor 8", "tensor 8", "tensor=8, data=2", "{tensor: 8, data: 2}", "data 2 x tensor 8", "data 2 × tensor 8"],
)  # fmt: skip
def test_ways_to_write_it(text: str) -> None:
    assert parse_layout(text, 16) == {"data": 2, "tensor": 8, "context": 1, "pipeline": 1}


@given(st.tuples(*(st.integers(1, 12) for _ in WORDS)))
def test_what_is_printed_is_read_again(sizes: tuple[int, ...]) -> None:
    given_sizes = dict(zip(WORDS, sizes, strict=True))
    cut = Cut(**given_sizes)
    if int(cut.devices) > 1:
        assert parse_layout(layout_words(cut), int(cut.devices)) == given_sizes
    else:
        assert layout_words(cut) == "one device"


@pytest.mark.parametrize(
    ("text", "devices", "said"),
    [
        ("tensors 8", 8, "did you mean 'tensor'"),
        ("tensor", 8, "needs a size"),
        ("tensor 0", 8, "needs a size"),
        ("tensor 2 tensor 4", 8, "given twice"),
        ("8 tensor 2", 8, "cannot read '8'"),
        ("", 8, "cannot read"),
        ("tensor 3", 8, "does not divide the 8 devices"),
        ("tensor 16", 8, "does not divide the 8 devices"),
        ("data 2 tensor 2", 8, "is for 4 devices; --count says 8"),
    ],
)
def test_refusals(text: str, devices: int, said: str) -> None:
    with pytest.raises(ArrieroError, match="--parallel") as error:
        parse_layout(text, devices)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("15e12", 15e12), ("15T", 15e12), ("300B", 3e11), ("4.2M", 4.2e6), ("512k", 512e3), ("8192", 8192.0), ("1_000", 1000.0),
     (".5b", 5e8)],
)  # fmt: skip
def test_counts(text: str, value: float) -> None:
    assert parse_count(text, "--tokens") == value


@pytest.mark.parametrize("text", ["", "0", "-3", "many", "1e400", "5Q", "nan", "inf"])
def test_no_counts(text: str) -> None:
    with pytest.raises(ArrieroError, match=r"--tokens: .* should be a number above 0"):
        parse_count(text, "--tokens")
