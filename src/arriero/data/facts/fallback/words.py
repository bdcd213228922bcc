"""Words and sentences of a line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from arriero.data.facts.fallback import flags as f
from arriero.data.facts.fallback.peel import MOST, OTHER, PUNCTUATION, SENTENCE_END, peel

_OPENING = "([<{\"'"
_STARTS = ("http://", "https://", "www.")


@dataclass
class LineCounts:
    """What is counted in a line; ``words`` are its words with whether each is a character of a script without spaces."""

    tokens: list[str] = field(default_factory=list)
    words: list[tuple[str, bool]] = field(default_factory=list)
    sentences: int = 0


@dataclass(frozen=True)
class TokenFigures:
    """Of what lies between white space."""

    letters: int
    upper: int
    digits: int
    url: bool


class _Sentences:
    """spaCy's Sentencizer: a sentence begins with the first word that is no punctuation after an end mark."""

    def __init__(self) -> None:
        self._period = self._started = False
        self._breaks = 0

    def add(self, kind: int) -> None:
        self._started = True
        if kind == SENTENCE_END:
            self._period = True
        elif self._period and kind == OTHER:
            self._breaks, self._period = self._breaks + 1, False

    @property
    def count(self) -> int:
        return self._breaks + 1 if self._started else 0


def count_line(line: str, by_space: bool, whole: bool = False) -> LineCounts:
    """``whole``: white space at the ends makes sentences as well."""
    counts, sentences, position = LineCounts(), _Sentences(), 0
    for start, end in [*_tokens(line), (len(line), len(line))]:
        space = line[position:start]
        first, last = position == 0, start == len(line)
        one_space = not space or (space == " " and not first)
        if not one_space and (whole or not (first or last)):
            sentences.add(OTHER)
        if last:
            break
        counts.tokens.append(line[start:end])
        for text, unspaced in pieces(line[start:end]):
            if unspaced:
                sentences.add(OTHER)
                counts.words.append((text, True))
                continue
            words = peel(text)
            for _, _, kind in words:
                sentences.add(kind)
            if by_space:
                counts.words.append((text, False))
            else:
                counts.words += ((text[from_:to], False) for from_, to, _ in words)
        position = end
    counts.sentences = sentences.count
    return counts


def _tokens(line: str) -> Iterator[tuple[int, int]]:
    position = 0
    for space in f.white_space().finditer(line):
        if space.start() > position:
            yield position, space.start()
        position = space.end()
    if position < len(line):
        yield position, len(line)


@lru_cache(maxsize=1 << 16)
def pieces(token: str) -> tuple[tuple[str, bool], ...]:
    """The token cut around characters of scripts without spaces (True), each with its combining marks."""
    flags = f.flag_list(token)
    if not any(flag & f.UNSPACED for flag in flags):
        return ((token, False),)
    found, start, at = [], 0, 0
    while at < len(token):
        if not flags[at] & f.UNSPACED:
            at += 1
            continue
        if start < at:
            found.append((token[start:at], False))
        start, at = at, at + 1
        while at < len(token) and flags[at] & f.COMBINING:
            at += 1
        found.append((token[start:at], True))
        start = at
    if start < at:
        found.append((token[start:at], False))
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def token_figures(token: str) -> TokenFigures:
    """Letters, upper-case letters and digits of a token, and whether a web address begins in it."""
    flags = f.flag_list(token)
    letters, upper, digits = (sum(1 for each in flags if each & flag) for flag in (f.ALPHA, f.UPPER, f.DIGIT))
    head = token.lstrip(_OPENING)[:8]
    lowered = "".join(chr(ord(c) | 0x20) if "A" <= c <= "Z" else c for c in head)
    return TokenFigures(letters, upper, digits, lowered.startswith(_STARTS))


__all__ = ["MOST", "PUNCTUATION", "LineCounts", "TokenFigures", "count_line", "pieces", "token_figures"]
