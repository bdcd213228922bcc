"""Where the records of a web archive begin, from any byte of it, so that splits read each record exactly once.

A record may hold another archive, so what looks like a record's beginning need not be one. What counts is the chain: a
unit (a gzip member, or a plain record) that is whole leads to the next, and damage leads to the next candidate. A split
that begins at any byte must join the chain that comes from the left (``join``), without reading the file from its front.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple, Protocol

from arriero.data.readers.inflate import DAMAGED, ERRORS, gzip_member
from arriero.data.readers.sources import GZIP_MAGIC, FileSource, Problem, Source, forget
from arriero.data.readers.warc_record import HEAD_BYTES, VERSION, Head, parse_head
from arriero.data.records import Limits

_SCAN = 1 << 20
_READ = 1 << 15
_NEAR = 1 << 20
"""Within so many bytes before a split every candidate is tried, whatever length it says."""
_NAME = b"WARC/"
_LONGEST_CANDIDATE = 64
_BLANK_LINES = re.compile(rb"[\r\n]{0,8}")
_END, _VERSION_LINE, _DAMAGED = b"\r\n\r\n", b"WARC/1.0\r\n", 3
"""What a record ends with and the next begins with, and how many bytes of that may be damaged or of another version."""


class Unit(NamedTuple):
    """What begins at a position: a gzip member's content or a plain record, and where the next one begins."""

    end: int
    data: bytes
    problem: Problem | None = None
    spent: int = 0
    """Bytes that were looked at in vain."""


class Layout(Protocol):
    """How a file's units are found."""

    def unit(self, position: int) -> Unit: ...

    def candidates(self, start: int) -> Iterator[int]:
        """Positions from ``start`` at which a unit may begin, in order."""

    def join(self, start: int) -> int | None:
        """The first position from ``start`` on the chain of units; None: none begins there."""

    def end(self) -> int | None:
        """The file's end, where it is known."""


def waste(limits: Limits) -> int:
    """Reading a split stops when it has looked at so many bytes in vain: no honest file is damaged that much."""
    return 16 * limits.record_bytes


def next_candidate(layout: Layout, position: int) -> int | None:
    """The first position from ``position`` at which a unit may begin."""
    return next(layout.candidates(position), None)


class PlainLayout:
    """Records one after the other: a plain file, or the content of one compressed as a whole."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source, self._limits = source, limits

    def end(self) -> int | None:
        return self._source.size if isinstance(self._source, FileSource) else None

    def unit(self, position: int) -> Unit:
        head = self._head(position)
        if isinstance(head, Problem):
            return Unit(position, b"", head, 1024)
        length = head.block + head.length
        if head.length > self._limits.record_bytes:
            problem = Problem(
                "read.too_large", f"Content-Length is {head.length}, over {self._limits.record_bytes} bytes"
            )
            return Unit(position, b"", problem, 1024)
        data = self._source.read(position, length + 16)
        if len(data) < length:
            cut = next_candidate(self, position + 1) is None
            detail = f"Content-Length is {head.length} and {max(len(data) - head.block, 0)} bytes are left"
            return Unit(position, b"", Problem("read.truncated" if cut else "read.length", detail), len(data))
        ends = _record_end(data, length)
        if ends is None:
            detail = f"Content-Length {head.length} does not lead to the end of a record"
            return Unit(position, b"", Problem("read.length", detail), len(data))
        return Unit(position + ends, data[:length])

    def _head(self, position: int) -> Head | Problem:
        for count in (1 << 12, HEAD_BYTES + 64):
            data = self._source.read(position, count)
            if not data and self._source.problem is not None:
                return self._source.problem
            head = parse_head(data)
            if len(data) < count or not isinstance(head, Problem) or head.reason != "read.truncated":
                return head
        return head

    def candidates(self, start: int) -> Iterator[int]:
        while True:
            data = self._source.read(start, _SCAN)
            last = len(data) < _SCAN
            reach = len(data) if last else len(data) - _LONGEST_CANDIDATE
            at = data.find(_NAME)
            while 0 <= at < reach:
                if VERSION.match(data, at):
                    yield start + at
                at = data.find(_NAME, at + 1)
            if last:
                return
            start += reach
            forget(self._source, start)

    def join(self, start: int) -> int | None:
        """Follows the chain from further back than a record can reach; headers are cheap to follow."""
        first = start - self._limits.record_bytes - HEAD_BYTES - 16
        position: int | None = 0 if first <= 0 else next_candidate(self, first)
        spent = 0
        while position is not None and position < start:
            unit = self.unit(position)
            spent += unit.spent
            lost = unit.problem is not None
            position = (
                next_candidate(self, start if spent > waste(self._limits) else position + 1)
                if lost
                else unit.end
            )
        return position


def _record_end(data: bytes, position: int) -> int | None:
    """Where the next record may begin behind one whose block ends at ``position``; None: something else follows.

    ``data`` goes at least 16 bytes further, or to the file's end, which may cut the next record's first word.
    """
    blank = _BLANK_LINES.match(data, position)
    end = blank.end() if blank else position
    if _NAME.startswith(data[end : end + len(_NAME)]):
        return end
    # a record is not lost because damage lies in the one behind it
    end = position + len(_END)
    return end if data[position:end] == _END and _nearly_a_beginning(data[end:]) else None


def _nearly_a_beginning(data: bytes) -> bool:
    line = data[: len(_VERSION_LINE)]
    wrong = sum(a != b for a, b in zip(line, _VERSION_LINE, strict=False))
    return len(line) == len(_VERSION_LINE) and wrong <= _DAMAGED


class MemberLayout:
    """Gzip members of one record each, as web archives are usually packed."""

    def __init__(self, source: FileSource, limits: Limits) -> None:
        self._source, self._limits = source, limits

    def end(self) -> int | None:
        return self._source.size

    def unit(self, position: int) -> Unit:
        head = self._beginning(position)
        if not VERSION.match(head):
            return Unit(position, b"", self._no_member(position), 1024)
        member, parts, made = gzip_member(), [], 0
        most = self._limits.record_bytes + HEAD_BYTES
        reached, count = position, _READ
        while not member.eof:
            packed = self._source.read(reached, count)
            if not packed:
                problem = Problem(
                    "read.truncated", f"the gzip member stops in the middle, after {made} bytes of content"
                )
                return Unit(position, b"", problem, made + reached - position)
            reached, count = reached + len(packed), min(4 * count, 1 << 18)
            try:
                parts.append(member.decompress(packed, most - made + 1))
            except ERRORS:
                return Unit(position, b"", Problem("read.gzip", DAMAGED), made + reached - position)
            made += len(parts[-1])
            if made > most:
                problem = Problem(
                    "read.too_large", f"the gzip member has more than {self._limits.record_bytes} bytes"
                )
                return Unit(position, b"", problem, made)
        return Unit(reached - len(member.unused_data), b"".join(parts))

    def _beginning(self, position: int, count: int = 64) -> bytes:
        """The first bytes of the member at ``position``; empty where none begins."""
        packed = self._source.read(position, 2048)
        if packed[:3] != GZIP_MAGIC or len(packed) < 4 or packed[3] & 0xE0:
            return b""
        try:
            return gzip_member().decompress(packed, count)
        except ERRORS:
            return b""

    def _no_member(self, position: int) -> Problem:
        packed = self._source.read(position, 2048)
        if position + len(packed) >= self._source.size and GZIP_MAGIC.startswith(packed[:3]):
            return Problem("read.truncated", f"the last gzip member has {len(packed)} bytes")
        return Problem("read.garbage", f"no record begins here but {packed[:24]!r}")

    def candidates(self, start: int) -> Iterator[int]:
        while start < self._source.size:
            data = self._source.read(start, _SCAN)
            at = data.find(GZIP_MAGIC)
            while at >= 0:
                if VERSION.match(self._beginning(start + at)):
                    yield start + at
                at = data.find(GZIP_MAGIC, at + 1)
            start += max(len(data) - len(GZIP_MAGIC) + 1, 1)

    def join(self, start: int) -> int | None:
        """Tries every candidate from which a member may reach over ``start``, and takes the farthest end, since a member
        stored inside another ends before it. With none, the chain from the left ends in damage before ``start``."""
        if start == 0:
            return 0
        first = max(start - _packed_at_most(self._limits.record_bytes + HEAD_BYTES), 0)
        reached, spent = None, 0
        for candidate in takewhile(lambda at: at < start, self.candidates(first)):
            if start - candidate <= _NEAR or self._may_reach(candidate, start):
                unit = self.unit(candidate)
                spent += unit.spent
                if unit.problem is None and unit.end >= start:
                    reached = max(reached or 0, unit.end)
            if spent > waste(self._limits):
                break
        return next_candidate(self, start) if reached is None else reached

    def _may_reach(self, candidate: int, position: int) -> bool:
        head = parse_head(self._beginning(candidate, 4096))
        return isinstance(head, Problem) or candidate + _packed_at_most(head.block + head.length) >= position


def _packed_at_most(size: int) -> int:
    """Most bytes that a gzip member of ``size`` bytes has when nothing in it can be compressed; generous."""
    return size + size // 512 + (1 << 12)


def is_one_stream(source: FileSource, content: Source, limits: Limits) -> bool:
    """True where the first gzip member holds more than one record: the file was compressed as a whole."""
    first = PlainLayout(content, limits).unit(0)
    member = MemberLayout(source, limits).unit(0)
    if first.problem is None:
        whole = len(member.data) if member.problem is None else None
        return content.read(first.end, 5) == b"WARC/" and (whole is None or whole > first.end)
    return False
