"""Documents of a plain text file out of its lines, each bounded in size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from arriero.data.readers.line_scan import ScannedLine
from arriero.data.readers.sources import FileSource, Problem

_SCAN = 1 << 18


@dataclass
class Group:
    """A document's bytes: ``offset`` of the first, ``line``: where that line begins, ``length`` with what separates."""

    offset: int
    line: int
    length: int = 0
    parts: list[bytes] = field(default_factory=list)
    problem: Problem | None = None

    @property
    def data(self) -> bytes:
        return b"\n".join(self.parts)

    def add(self, data: bytes, length: int, most: int) -> None:
        self.length += length
        if self.problem is None and self.length > most + 1:
            self.problem = Problem("read.too_large", f"a document of more than {most} bytes")
            self.parts = []
        if self.problem is None:
            self.parts.append(data)


def group_lines(
    lines: Iterator[ScannedLine], split: str, most: int, inside: bool = False, blank: int = 0
) -> Iterator[Group]:
    """Documents as ``split`` cuts them. ``inside``: the lines begin within a document, which is not given.

    ``blank``: how many blank lines lie before the first line.
    """
    kind, _, argument = split.partition(":")
    if kind == "line":
        return _by_line(lines)
    if kind == "blank_lines":
        return _by_blank_lines(lines, int(argument), most, inside, blank)
    return _by_marker(lines, argument.encode() if kind == "marker" else b"", most, inside)


def _by_line(lines: Iterator[ScannedLine]) -> Iterator[Group]:
    for line in lines:
        yield Group(line.offset, line.offset, line.length, [line.data], line.problem)


def _by_blank_lines(
    lines: Iterator[ScannedLine], count: int, most: int, inside: bool, blank: int
) -> Iterator[Group]:
    group: Group | None = None
    for line in lines:
        filled = line.problem is not None or bool(line.data.strip())
        if filled and blank >= count and (group or inside):
            if group:
                yield group
            group, inside = Group(line.offset, line.offset), False
        elif group is None and not inside:
            group = Group(line.offset, line.offset)
        blank = 0 if filled else blank + 1
        if group:
            group.add(line.data, line.length, most)
            group.problem = group.problem or line.problem
    if group:
        yield group


def _by_marker(lines: Iterator[ScannedLine], marker: bytes, most: int, inside: bool) -> Iterator[Group]:
    """Without a marker all lines are one document."""
    group: Group | None = None if inside else Group(0, 0)
    for line in lines:
        offset = line.offset
        *before, last = line.data.split(marker) if marker else [line.data]
        for part in before:
            if group:
                group.add(part, len(part) + len(marker), most)
                yield group
            offset += len(part) + len(marker)
            group = Group(offset, line.offset)
        if group:
            group.add(last, line.length - (offset - line.offset), most)
            if line.problem is not None:
                group.problem = group.problem or line.problem
                group.parts = []
    if group:
        yield group


def blank_lines_before(source: FileSource, position: int) -> int:
    """Blank lines right before the first line that begins at ``position`` or later in a plain file."""
    cut = _line_start(source, position)
    for at in range(position, cut, _SCAN):
        if source.read(at, min(_SCAN, cut - at)).strip():
            return 0
    reach = 1 << 12
    while True:
        start = max(position - reach, 0)
        data = source.read(start, position - start)
        lines = (data if cut == position else data + b"\n").split(b"\n")[:-1]
        blank = 0
        for line in reversed(lines if start == 0 else lines[1:]):
            if line.strip():
                return blank
            blank += 1
        if start == 0:
            return blank
        reach *= 4


def _line_start(source: FileSource, position: int) -> int:
    """The first byte from ``position`` at which a line begins; the file's end if none does."""
    at = position - 1
    while at < source.size:
        data = source.read(at, _SCAN)
        found = data.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(data)
    return source.size
