"""Lines of a raw file from any byte range, with bounds: a line too long costs no memory, damage costs its segment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from arriero.data.readers.frames import Segment, segments
from arriero.data.readers.sources import FileSource, Problem, content_blocks
from arriero.data.records import Limits


class ScannedLine(NamedTuple):
    """A line: its first byte's offset in the content, its bytes without the line feed, its length with it.

    Or, with a ``problem``, ``length`` bytes of which nothing can be made.
    """

    offset: int
    data: bytes
    length: int
    problem: Problem | None = None


def compressed(source: FileSource) -> bool:
    """True for gzip and zstd files, told by their first bytes as :func:`content_blocks` does."""
    head = source.read(0, 4)
    return head[:3] == b"\x1f\x8b\x08" or head == b"\x28\xb5\x2f\xfd" or head[1:4] == b"\x2a\x4d\x18"


def byte_splits(path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
    """Ranges of a plain file, or of a compressed one that can be entered at several places; else one range."""
    with FileSource(path) as source:
        if source.size <= split_bytes:
            return [(0, None)]
        if not compressed(source):
            starts = list(range(0, source.size, split_bytes))
        else:
            starts = [0]
            for segment in segments(source):
                if segment.start >= starts[-1] + split_bytes:
                    starts.append(segment.start)
    return list(zip(starts, [*starts[1:], None], strict=True))


def scan_lines(source: FileSource, start: int, end: int | None, limits: Limits) -> Iterator[ScannedLine]:
    """Lines whose first byte lies in the range (bytes on disk; of compressed files, segments that begin in it)."""
    if not compressed(source):
        begin = max(start - 1, 0)
        pieces = [Segment(begin, source.size, begin)]
        first, last = start, end
    else:
        every = segments(source)
        inside = [
            n for n, piece in enumerate(every) if piece.start >= start and (end is None or piece.start < end)
        ]
        if not inside:
            return
        pieces = every[max(inside[0] - 1, 0) :]  # the segment before says whether a line begins at the border
        first = every[inside[0]].content
        last = every[inside[-1] + 1].content if inside[-1] + 1 < len(every) else None
    for line in _Scan(source, limits, last).lines(pieces):
        if last is not None and line.offset >= last:
            return
        if line.offset >= first:
            yield line


class _Scan:
    """One pass over segments."""

    def __init__(self, source: FileSource, limits: Limits, last: int | None) -> None:
        self._source, self._limits, self._last = source, limits, last
        self._waiting: list[bytes] = []
        self._length = 0
        self._at = 0
        """The offset of the line that is being gathered."""
        self._passing = False
        """Inside a line whose beginning was not seen."""

    def lines(self, pieces: list[Segment]) -> Iterator[ScannedLine]:
        self._at, self._passing = pieces[0].content, pieces[0].content > 0
        for number, piece in enumerate(pieces):
            for block in content_blocks(self._source, self._limits, piece.start, piece.end):
                if isinstance(block, Problem):
                    following = pieces[number + 1].content if number + 1 < len(pieces) else None
                    yield self._damage(block, following)
                    break
                yield from self._cut(block)
                if self._passing and self._last is not None and self._at + self._length >= self._last:
                    return  # the line began before the range and ends behind it
        if self._length and not self._passing:
            yield self._line(b"")

    def _cut(self, block: bytes) -> Iterator[ScannedLine]:
        head, *more = block.split(b"\n")
        if not more:
            self._gather(head)
            return
        if self._passing:
            self._at += self._length + len(head) + 1
            self._waiting, self._length, self._passing = [], 0, False
        else:
            self._length += len(head) + 1
            yield self._line(head)
        for data in more[:-1]:
            self._length = len(data) + 1
            yield self._line(data)
        self._gather(more[-1])

    def _gather(self, data: bytes) -> None:
        self._length += len(data)
        if self._passing or self._length > self._limits.record_bytes + 1:
            self._waiting = []
        elif data:
            self._waiting.append(data)

    def _line(self, tail: bytes) -> ScannedLine:
        """The line that is complete with ``tail``; ``_length`` counts all of it already."""
        offset, length = self._at, self._length
        data = b"".join([*self._waiting, tail]) if self._waiting else tail
        self._at, self._waiting, self._length = offset + length, [], 0
        if length > self._limits.record_bytes + 1:
            detail = f"a line of {length} bytes, over {self._limits.record_bytes}"
            return ScannedLine(offset, b"", length, Problem("read.too_large", detail))
        return ScannedLine(offset, data, length)

    def _damage(self, problem: Problem, following: int | None) -> ScannedLine:
        offset = self._at
        reached = offset + self._length if following is None else following
        self._at, self._waiting, self._length, self._passing = reached, [], 0, True
        return ScannedLine(offset, b"", max(reached - offset, 0), problem)
