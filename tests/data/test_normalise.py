"""The one form of texts, and that the short ways to it lead there."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from arriero.data.normalise import _CONTROL, _LINE_END, _SPACES, normalise

_PIECES = [" ", "\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\xa0", "\x00", "\x7f", "\x9f", "\ufeff", "a", "e\u0301", "é", "\u200b", "x y"]  # fmt: skip


def _by_the_book(text: str) -> str:
    text = unicodedata.normalize("NFC", _CONTROL.sub("", _LINE_END.sub("\n", text)))
    return "\n".join(line.rstrip(_SPACES) for line in text.split("\n")).strip(_SPACES + "\n")


@given(st.lists(st.sampled_from(_PIECES)).map("".join) | st.text(max_size=30))
def test_every_step_is_taken_where_it_is_needed(text: str) -> None:
    assert normalise(text) == _by_the_book(text)
    assert normalise(normalise(text)) == normalise(text)
