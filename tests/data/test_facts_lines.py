"""Lines and paragraphs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.facts import line_table as table
from arriero.data.facts import lines, measure, paragraphs
from arriero.native import library


@pytest.fixture(params=["kernel", "fallback"], autouse=True)
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with the compiled kernel and without it."""
    if request.param == "fallback":
        monkeypatch.setenv(library.SWITCH, "0")
    elif not library.available():
        pytest.skip("there is no native library")


@pytest.mark.parametrize("text", ["", "a", "\n", "\n\na\n", "é\n今天 x\n", "a\r\nb\n\n\n", "a\n b\n\n\nc\n"])
def test_lines_cover_the_text(text: str) -> None:
    found = lines(text)
    assert [text[a:b] for a, b in zip(found.start, found.end, strict=True)] == text.split("\n")
    parts = paragraphs(text)
    pieces = [text[a:b] for a, b in zip(parts.start, parts.end, strict=True)]
    assert "".join(pieces).replace("\n", "") == text.replace("\n", "")
    assert all(piece and "\n\n" not in piece and not piece.startswith("\n") for piece in pieces)


def test_what_is_known_of_a_line() -> None:
    text = (
        "  Read 12 PAGES here, Sir.\n• one\nmore...\nfin。\nsay lorem ipsum {\nuse cookies\nJavascript\n"
        + "y" * 1001
        + "\n"
    )
    found = lines(text)
    flags = [
        table.END_MARK | table.TERMINAL | table.C4 | table.C4_OPEN, table.BULLET, table.ELLIPSIS | table.TERMINAL,
        table.TERMINAL, table.LOREM | table.CURLY, table.POLICY, table.JAVASCRIPT, table.LONG_WORD, 0,
    ]  # fmt: skip
    assert found.flags.tolist() == flags
    assert found.words.tolist() == [5, 2, 1, 1, 4, 2, 1, 1, 0] and found.longest_word[0] == 5
    assert (found.letters[0], found.upper[0], found.digits[0], found.sentences[0]) == (16, 7, 2, 1)
    assert found.sentences[-1] == 0 and found.hash[-1] == 0


def test_citations_are_taken_out_before_c4_judges() -> None:
    found = lines("He was here.[3]\nShe [citation needed] was [edit] there. Then left.[]")
    assert (found.flags & table.C4 > 0).tolist() == [True, True]
    assert found.c4_sentences.tolist() == [1, 2]


def test_lines_that_ccnet_takes_for_one_have_one_hash() -> None:
    one, two, other, blank, marks = lines("Hello,  World 12!\nhello world 98\nhello worlds 98\n \n?!…").hash
    assert one == two != other and blank == marks == 0
    assert lines("Été\nete").hash[0] != lines("Été\nete").hash[1]  # accents stay


@given(st.text(st.sampled_from("ab .\n'[1]{-…今é")))
def test_lines_add_up_to_the_facts(text: str) -> None:
    values, found = measure(text).values, lines(text)
    assert int(found.words.sum()) == values["tokens"]
    assert int(found.sentences.sum()) == values["sentences"]
    assert int((found.flags & table.C4 > 0).sum()) == values["c4_lines"]
    assert int(found.c4_sentences[found.flags & table.C4_OPEN > 0].sum()) == values["c4_open_sentences"]
    assert found.start.dtype == np.int64 and found.hash.dtype == np.uint64
