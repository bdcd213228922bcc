"""spaCy's English rules (Honnibal et al., MIT licence) for one chunk between white space, written out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from arriero.data.facts.fallback import flags as f
from arriero.data.facts.tables import english

MOST = 1024
"""Characters of a chunk; longer ones are one word, whatever is in them."""
OTHER, PUNCTUATION, SENTENCE_END = 0, 1, 2
_LONGEST_UNIT = 8


class Chunk:
    """A stretch without white space, and the flags of its characters. Positions are characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.flags = f.flag_list(text)
        self.words: list[tuple[int, int]] = []

    def has(self, at: int, flags: int, to: int | None = None) -> bool:
        """Whether the character at ``at``, before ``to``, has one of ``flags``."""
        return at < (len(self.text) if to is None else to) and bool(self.flags[at] & flags)

    def kind(self, start: int, end: int) -> int:
        """What the word is to the rule for sentences."""
        if end - start == 1 and self.flags[start] & f.SENTENCE:
            return SENTENCE_END
        return PUNCTUATION if all(flags & f.PUNCT for flags in self.flags[start:end]) else OTHER


@lru_cache(maxsize=1 << 16)
def peel(text: str) -> tuple[tuple[int, int, int], ...]:
    """Start, end and kind of each word of a chunk in which no character is a word by itself."""
    chunk = Chunk(text)
    if len(text) > MOST:
        return ((0, len(text), PUNCTUATION if all(flags & f.PUNCT for flags in chunk.flags) else OTHER),)
    start, end, suffixes = _affixes(chunk)
    if start < end:
        _middle(chunk, start, end)
    chunk.words += reversed(suffixes)
    return tuple((first, last, chunk.kind(first, last)) for first, last in chunk.words)


def _affixes(chunk: Chunk) -> tuple[int, int, list[tuple[int, int]]]:
    """spaCy's ``Tokenizer._split_affixes``: what is left, and the suffixes from the outside to the inside."""
    exceptions = english().exceptions
    text, start, end = chunk.text, 0, len(chunk.text)
    suffixes: list[tuple[int, int]] = []
    while start < end and text[start:end] not in exceptions:
        before = prefix(chunk, start, end)
        if before and text[start + before : end] in exceptions:
            chunk.words.append((start, start + before))
            start += before
            break
        behind = suffix(chunk, start + before, end)
        if behind and text[start : end - behind] in exceptions:
            suffixes.append((end - behind, end))
            end -= behind
            break
        if not before and not behind:
            break
        if before:
            chunk.words.append((start, start + before))
            start += before
        if behind:
            suffixes.append((end - behind, end))
            end -= behind
    return start, end, suffixes


def _middle(chunk: Chunk, start: int, end: int) -> None:
    """What is left of a chunk: an exception, an address, or words with infixes between them."""
    lengths = english().exceptions.get(chunk.text[start:end])
    if lengths:
        for length in lengths:
            chunk.words.append((start, start + length))
            start += length
    elif is_address(chunk.text[start:end], chunk.flags[start:end]):
        chunk.words.append((start, end))
    else:
        _infixes(chunk, start, end)


def _dots(text: str, at: int, end: int) -> int:
    """How many full stops there are from ``at`` on."""
    count = 0
    while at + count < end and text[at + count] == ".":
        count += 1
    return count


def prefix(chunk: Chunk, start: int, end: int) -> int:
    """Characters of the prefix rule that matches; 0: none."""
    text = chunk.text
    char, after = text[start], text[start + 1 : min(start + 2, end)]
    if chunk.flags[start] & (f.PREFIX | f.ICON):
        return 1
    if char == "+":
        return int(not ("0" <= after <= "9" and after))
    if char == ".":
        dots = _dots(text, start, end)
        return dots if dots > 1 else 0
    if char == "U":
        return 3 if text[start + 1 : min(start + 3, end)] == "S$" else 0
    return 2 if char in "CA" and after == "$" else 0


def suffix(chunk: Chunk, start: int, end: int) -> int:
    """Characters of the longest suffix rule that matches; 0: none."""
    if start >= end:
        return 0
    text, flags = chunk.text[start:end], chunk.flags[start:end]
    char = text[-1]
    digit_before = len(text) > 1 and bool(flags[-2] & f.ASCII_DIGIT)
    found = [int(bool(flags[-1] & (f.SUFFIX | f.ICON)))]
    if char == ".":
        found.append(_dot_suffix(text, flags))
    if text.endswith(("……", "'s", "'S", "’s", "’S")):
        found.append(2)
    if (char == "+" or flags[-1] & f.CURRENCY) and digit_before:
        found.append(1)
    if re.search(r"[0-9](?:US|C|A)\$\Z", text):
        found.append(3 if text.endswith("US$") else 2)
    for length in range(1, min(_LONGEST_UNIT, len(text) - 1) + 1):
        if flags[-length - 1] & f.ASCII_DIGIT and text[-length:] in english().units:
            found.append(length)
    return max(found)


def _dot_suffix(text: str, flags: Sequence[int]) -> int:
    dots = len(text) - len(text.rstrip("."))
    if dots > 1:
        return dots
    if len(text) > 1 and flags[-2] & f.BEFORE_DOT:
        return 1
    if len(text) < 3:
        return 0
    return int((text[-3] == "°" and text[-2] in "FfCcKk") or bool(flags[-2] & flags[-3] & f.EN_UPPER))


_HOST = "A-Za-z0-9\u00a1-\uffff"
_LABELS = re.compile(rf"((?:[{_HOST}](?:[{_HOST}_-]{{0,62}}[{_HOST}])?\.)+)([{_HOST}_-]*)")


def is_address(text: str, flags: Sequence[int]) -> bool:
    """Whether spaCy's pattern for web and mail addresses matches (without its numeric addresses)."""
    scheme = 0
    while scheme < len(text) and (flags[scheme] & f.ALNUM or text[scheme] in "_+-."):
        scheme += 1
    if scheme >= 2 and text.startswith("://", scheme) and _address_from(text, flags, scheme + 3):
        return True
    return _address_from(text, flags, 0)


def _address_from(text: str, flags: Sequence[int], start: int) -> bool:
    users = [at for at in range(start + 1, len(text)) if text[at] == "@"]
    return any(_is_host(text, flags, at + 1) for at in reversed(users)) or _is_host(text, flags, start)


def _is_host(text: str, flags: Sequence[int], start: int) -> bool:
    """host.name.tld, then :port, then / ? # and anything."""
    found = _LABELS.match(text, start)
    if not found:
        return False
    first, at = found.span(2)
    if not 2 <= at - first <= 63 or not all(flags[i] & f.EN_LOWER for i in range(first, at)):
        return False
    if text.startswith(":", at):
        digits = at + 1
        while digits < len(text) and flags[digits] & f.DIGIT:
            digits += 1
        if not 2 <= digits - at - 1 <= 5:
            return False
        at = digits
    return at == len(text) or text[at] in "/?#"


def _infixes(chunk: Chunk, start: int, end: int) -> None:
    at = done = start
    while at < end:
        length = infix(chunk, at, start, end)
        if length and at != start:
            if at != done:
                chunk.words.append((done, at))
            chunk.words.append((at, at + length))
            done = at + length
        at += length or 1
    if done < end:
        chunk.words.append((done, end))


def infix(chunk: Chunk, at: int, start: int, end: int) -> int:
    """Characters of the infix at ``at``; 0: none."""
    text, flags = chunk.text, chunk.flags
    char = text[at]
    if not flags[at] & f.ACTIVE:
        return 0
    dots = _dots(text, at, end)
    if dots > 1:
        return dots
    if char == "…" or flags[at] & f.ICON:
        return 1
    if at == start:
        return 0
    before, after = flags[at - 1], text[at + 1 : min(at + 2, end)]
    if char in "+-*^" and before & f.ASCII_DIGIT and after and after in "0123456789-":
        return 1
    if char == ".":
        return int(bool(before & (f.EN_LOWER | f.QUOTE)) and chunk.has(at + 1, f.EN_UPPER | f.QUOTE, end))
    if char == ",":
        return int(bool(before & f.EN_ALPHA) and chunk.has(at + 1, f.EN_ALPHA, end))
    if not before & (f.EN_ALPHA | f.ASCII_DIGIT):
        return 0
    if char in ":<>=/":
        return int(chunk.has(at + 1, f.EN_ALPHA, end))
    return _hyphen(chunk, at, end)


def _hyphen(chunk: Chunk, at: int, end: int) -> int:
    for hyphen in ("-", "–", "—", "--", "---", "——", "~"):
        last = at + len(hyphen)
        if last <= end and chunk.text.startswith(hyphen, at) and chunk.has(last, f.EN_ALPHA, end):
            return len(hyphen)
    return 0
