"""What a page would cost a parser, told from its bytes before one sees it: tags and nesting.

Parsers take time quadratic in the nesting, so a page that is only depth stops them for hours. A count over the bytes
settles almost every page; one that seems too deep is walked tag by tag with HTML's rules on implied ends.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from arriero.data.readers.sources import Problem
from arriero.data.records import Limits
from arriero.native import pages

_VOID = frozenset(
    b"area base basefont bgsound br col embed frame hr img input link meta param source track wbr".split()
)
_RAW = frozenset(b"script style textarea title xmp iframe noembed noframes".split())
_CLOSED_BY_SIBLING: dict[bytes, tuple[frozenset[bytes], frozenset[bytes]]] = {}
"""Tag: (the tags whose open element it closes, the tags behind which it does not look)."""
_TAG = re.compile(rb"<(/?)([a-z][^\s/>]{0,63})")
_MOST_STEPS = 10_000_000
_KEY_BYTES = 256
_FORMATTING = frozenset(b"a b big code em font i nobr s small strike strong tt u".split())
_BLOCKS = frozenset(
    b"address article aside blockquote body button caption center col details dir div dl dd dt fieldset figcaption figure"
    b" footer form h1 h2 h3 h4 h5 h6 header hgroup html li main menu nav ol p pre section summary table tbody td template"
    b" tfoot th thead tr ul".split()
)
_TABLE = frozenset((b"table",))
_CELL = frozenset((b"td", b"th", b"caption", b"tr", b"table"))
_PREFIXES = (
    b"br", b"hr", b"img", b"inp", b"met", b"lin", b"are", b"bas", b"col", b"emb", b"par", b"sou", b"tra", b"wbr", b"p",
    b"li", b"dt", b"dd", b"td", b"th", b"tr", b"opt", b"pat", b"use", b"cir", b"rec", b"pol", b"ell", b"sto", b"ima",
)  # fmt: skip
"""Beginnings of the names of tags that have no end, often lack it, or close themselves in drawings."""


def _siblings(names: bytes, closes: bytes, behind: bytes) -> None:
    for name in names.split():
        _CLOSED_BY_SIBLING[name] = (frozenset(closes.split()), frozenset(behind.split()))


_CELLS = b"table template html"
_siblings(b"li", b"li", b"ul ol menu dir " + _CELLS)
_siblings(b"dt dd", b"dt dd", b"dl " + _CELLS)
_siblings(b"td th", b"td th", _CELLS)
_siblings(b"tr", b"tr td th", _CELLS)
_siblings(b"thead tbody tfoot", b"thead tbody tfoot tr td th", _CELLS)
_siblings(b"option", b"option", b"select datalist " + _CELLS)
_siblings(b"optgroup", b"option optgroup", b"select " + _CELLS)
_siblings(b"a", b"a", b" ".join(_BLOCKS))
_siblings(
    b"p div ul ol dl table h1 h2 h3 h4 h5 h6 section article aside nav header footer form pre blockquote address center"
    b" figure figcaption fieldset details dir menu main hr",
    b"p",
    b"td th caption button object " + _CELLS,
)


def over_budget(page: bytes, limits: Limits) -> Problem | None:
    """Why a page (UTF-8, or ASCII's superset) is not given to a parser, or None."""
    tags = page.count(b"<")
    if tags > limits.html_nodes:
        return Problem("extract.too_many_nodes", f"{tags} tags, over {limits.html_nodes}")
    if tags <= limits.html_depth or quick_depth(page) <= limits.html_depth:
        return None
    depth = nesting(page, limits.html_depth)
    if depth > limits.html_depth:
        return Problem("extract.too_deep", f"tags are nested deeper than {limits.html_depth}")
    return None


def quick_depth(page: bytes) -> int:
    """The deepest nesting if every end tag closed the last element, or the elements that no end tag names if there are
    more; void tags and those whose end is often left out do not count. Errs upwards on careless pages, where
    :func:`nesting` decides."""
    return pages.page_depth(page, _NESTS_BYTES) if pages.available() else _quick_depth(page)


def _quick_depth(page: bytes) -> int:
    """The same without the native library."""
    data = np.frombuffer(page + b">>>>>", dtype=np.uint8)
    starts = np.flatnonzero(data[:-5] == ord("<")) + 1
    ends = data[starts] == ord("/")
    starts += ends
    second = _LETTER[data[starts + 1]]
    third = _LETTER[data[starts + 2]] * (second > 0)
    code = _LETTER[data[starts]] << 10 | second << 5 | third
    nests = _NESTS[code] > 0
    names, closing = code[nests], ends[nests]
    running = np.cumsum(np.where(closing, -1, 1), dtype=np.int32)
    floor = np.minimum.accumulate(np.minimum(running, 0))  # an end without a beginning does nothing
    open_still = np.bincount(names[~closing], minlength=1 << 15) - np.bincount(
        names[closing], minlength=1 << 15
    )
    return max(int(np.max(running - floor, initial=0)), int(np.maximum(open_still, 0).sum()))


def _letters() -> NDArray[np.uint16]:
    """1 to 26 for letters of either case, 0 for other bytes."""
    table = np.zeros(256, dtype=np.uint16)
    for case in (ord("a"), ord("A")):
        table[case : case + 26] = np.arange(1, 27)
    return table


def _nesting_codes() -> NDArray[np.int8]:
    """1 for the first three letters, 5 bits each, of names that nest."""
    table = np.ones((32, 32, 32), dtype=np.int8)
    table[0] = 0
    for name in _PREFIXES:
        first, *more = _LETTER[np.frombuffer(name, dtype=np.uint8)]
        if len(more) == 2:
            table[first, more[0], more[1]] = 0
        elif more:
            table[first, more[0], 0] = 0
        else:
            table[first, 0, 0] = 0
    return table.reshape(-1)


_LETTER = _letters()
_NESTS = _nesting_codes()
_NESTS_BYTES = _NESTS.tobytes()


def nesting(page: bytes, stop: int) -> int:
    """The deepest nesting of a page's elements, with void elements, implied ends and raw text as HTML has them (HTML
    standard, 13.2.6); counting ends once it is over ``stop``. An end tag closes the nearest open element of its name,
    unless a table lies between. A page built to make this walk long counts as too deep."""
    page = page.lower()
    stack = _Open()
    deepest = 0
    position = page.find(b"<")
    while position >= 0:
        if page.startswith(b"<!--", position):
            position = page.find(b"-->", position)
            position = page.find(b"<", position) if position >= 0 else -1
            continue
        found = _TAG.match(page, position)
        position = page.find(b">", position) if found else position + 1
        if position < 0:
            break
        if found:
            name = found[2]
            if found[1]:
                stack.end(name)
            elif name in _RAW:
                end = page.find(b"</" + name, position)
                position = end if end >= 0 else len(page)
            else:
                if name in _CLOSED_BY_SIBLING:
                    stack.begin_beside(*_CLOSED_BY_SIBLING[name])
                if name not in _VOID and page[position - 1] != ord("/"):
                    stack.open(name, page[found.start() : min(position, found.start() + _KEY_BYTES)])
                    deepest = max(deepest, stack.depth())
        if deepest > stop or stack.steps > _MOST_STEPS:
            return max(deepest, stop + 1)
        position = page.find(b"<", position)
    return deepest


class _Open:
    """The open elements, and the formatting elements that lost their place without an end tag: HTML opens those again in
    every block that follows, at most three of the same (HTML standard, 13.2.4.3)."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.steps = 0
        self._tags: list[bytes] = []
        self._counts: dict[bytes, int] = {}
        self._lost: dict[bytes, dict[bytes, int]] = {}
        self._lost_count = 0

    def depth(self) -> int:
        """How deep the next element lies."""
        return len(self.names) + self._lost_count

    def open(self, name: bytes, tag: bytes) -> None:
        self.names.append(name)
        self._tags.append(tag)
        self._counts[name] = self._counts.get(name, 0) + 1

    def end(self, name: bytes) -> None:
        """An end tag closes the nearest element of its name and all in it. One in the way keeps it from that: a table, or
        for names without a meaning of their own any block."""
        self._find(name)
        if not self._counts.get(name):
            return
        behind = _BLOCKS if name not in _BLOCKS and name not in _FORMATTING else _TABLE
        for at in range(len(self.names) - 1, -1, -1):
            self.steps += 1
            if self.names[at] == name:
                if name in _FORMATTING and not _BLOCKS.isdisjoint(self.names[at + 1 :]):
                    del self.names[at], self._tags[at]  # the blocks in it stay open
                    self._counts[name] -= 1
                else:
                    self._cut(at)
                return
            if self.names[at] in behind:
                return

    def begin_beside(self, names: frozenset[bytes], behind: frozenset[bytes]) -> None:
        """A start tag closes the open elements of ``names``, as far as one of ``behind``."""
        if not any(self._counts.get(name) for name in names):
            return
        last = None
        for at in range(len(self.names) - 1, -1, -1):
            self.steps += 1
            if self.names[at] in names:
                last = at
            elif self.names[at] in behind:
                break
        if last is not None:
            self._cut(last)

    def _cut(self, at: int) -> None:
        ended = self.names[at]
        for name, tag in zip(self.names[at:], self._tags[at:], strict=True):
            self._counts[name] -= 1
            if name in _FORMATTING and name != ended:
                self._lose(name, tag)
        del self.names[at:], self._tags[at:]
        if ended in _CELL:
            self._lost, self._lost_count = {}, 0

    def _lose(self, name: bytes, tag: bytes) -> None:
        same = self._lost.setdefault(name, {})
        if same.get(tag, 0) < 3:
            same[tag] = same.get(tag, 0) + 1
            self._lost_count += 1

    def _find(self, name: bytes) -> None:
        """An end tag also ends a formatting element that lost its place, the last of its name."""
        same = self._lost.get(name)
        if same:
            tag = next(reversed(same))
            same[tag] -= 1
            self._lost_count -= 1
            if not same[tag]:
                del same[tag]
