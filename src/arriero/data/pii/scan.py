"""Where text could hold personal data: runs of digits, found in one pass; the rules look at these only."""

from __future__ import annotations

import re
from dataclasses import dataclass

RUN = re.compile(r"[0-9](?:[0-9]|[ .\-/()\xa0\u2011]{1,3}(?=[0-9])){6,}")
"""Digits with at most three separators between them, seven characters or more. Every character can be matched in one
way only, so the time is linear."""
ROW = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,12})?(?: {1,3}[0-9]{1,9}(?:\.[0-9]{1,12})?){7,}")
"""A row of a table: eight plain numbers or more. No personal number is written in so many groups."""
BEFORE = 24
"""Characters before a number in which words tell what it is."""


@dataclass(frozen=True)
class Found:
    """One piece of personal data: its place and its kind. The value is not kept."""

    start: int
    end: int
    kind: str


def digits(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(character for character in text if "0" <= character <= "9")


def words_before(text: str, start: int) -> str:
    """What stands before a number, in lower case."""
    return text[max(0, start - BEFORE) : start].lower()


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a number is no part of a longer word, address, amount or expression."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before and (before.isalnum() or before in "_./=-+#$€£%&@~*^"):
        return False
    if after in ".,":
        return not text[end + 1 : end + 2].isdigit()
    return not (after and (after.isalnum() or after in "_/=-%@*^"))
