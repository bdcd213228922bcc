"""Borders inside compressed files from which reading can begin: zstd frames that state their size, BGZF blocks."""

from __future__ import annotations

import struct
from typing import NamedTuple

from arriero.data.readers.sources import GZIP_MAGIC, ZSTD_MAGIC, FileSource

_SKIPPABLE = b"\x2a\x4d\x18"
_SCAN = 1 << 20


class Segment(NamedTuple):
    """Bytes ``start`` to ``end`` on disk, whose content begins at byte ``content`` of the whole."""

    start: int
    end: int
    content: int


def segments(source: FileSource) -> list[Segment]:
    """The pieces of a file that can be decompressed on their own, in order; one piece where borders are not known.

    Known are: zstd frames whose headers state their content's size (RFC 8878, 3.1.1.1), and the blocks of BGZF, as
    ``bgzip`` writes (SAM specification, 4.1). A frame that is damaged ends at the next frame's magic number.
    """
    head = source.read(0, 4)
    found: list[Segment] | None = None
    if head == ZSTD_MAGIC or head[1:4] == _SKIPPABLE:
        found = _zstd(source)
    elif head[:3] == GZIP_MAGIC:
        found = _bgzf(source)
    return found or [Segment(0, source.size, 0)]


def _zstd(source: FileSource) -> list[Segment] | None:
    found: list[Segment] = []
    position = content = 0
    while position < source.size:
        if source.read(position, 4)[1:] == _SKIPPABLE:
            position += 8 + int.from_bytes(source.read(position + 4, 4), "little")
            continue
        size, blocks = _frame_header(source.read(position, 18))
        if size is None:
            return None
        end = _blocks_end(source, position, blocks) or _next_frame(source, position + 4)
        found.append(Segment(position, end, content))
        position, content = end, content + size
    return found


def _frame_header(data: bytes) -> tuple[int | None, int]:
    """(the content's size if stated, the bytes from the frame's beginning to its first block)."""
    if data[:4] != ZSTD_MAGIC or len(data) < 6:
        return None, 0
    flags = data[4]
    single, size_code = flags >> 5 & 1, flags >> 6
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    width = (single, 2, 4, 8)[size_code]
    if width == 0 or len(data) < at + width:
        return None, 0
    size = int.from_bytes(data[at : at + width], "little") + (256 if size_code == 1 else 0)
    return size, at + width


def _blocks_end(source: FileSource, frame: int, first: int) -> int | None:
    """Where a frame ends, by the headers of its blocks; the file's end when it is cut short; None: they make no sense."""
    checksum = source.read(frame + 4, 1)[0] >> 2 & 1
    position = frame + first
    while True:
        header = int.from_bytes(source.read(position, 3), "little")
        kind, size = header >> 1 & 3, header >> 3
        if kind == 3 or size > 1 << 17:
            return None
        position += 3 + (1 if kind == 1 else size)
        if position >= source.size:
            return (
                source.size
                if position == source.size or _next_frame(source, frame + 4) == source.size
                else None
            )
        if header & 1:
            end = min(position + 4 * checksum, source.size)
            follows = source.read(end, 4)
            return end if end == source.size or follows == ZSTD_MAGIC or follows[1:] == _SKIPPABLE else None


def _next_frame(source: FileSource, position: int) -> int:
    while position < source.size:
        data = source.read(position, _SCAN)
        at = data.find(ZSTD_MAGIC)
        while at >= 0:
            if _frame_header(source.read(position + at, 18))[0] is not None:
                return position + at
            at = data.find(ZSTD_MAGIC, at + 1)
        position += max(len(data) - 3, 1)
    return source.size


def _bgzf(source: FileSource) -> list[Segment] | None:
    """Blocks of BGZF, gathered to segments of about 1 MiB so that the list stays small."""
    found: list[Segment] = []
    start = position = content = made = 0
    while position < source.size:
        head = source.read(position, 18)
        if len(head) < 18 or head[:4] != b"\x1f\x8b\x08\x04" or head[10:16] != b"\x06\0BC\x02\0":
            return None  # an ordinary .gz, or damage that only reading from the front can name
        end = position + struct.unpack("<H", head[16:18])[0] + 1
        if end > source.size:
            return None
        made += int.from_bytes(source.read(end - 4, 4), "little")
        position = end
        if position - start >= 1 << 20 or position >= source.size:
            found.append(Segment(start, position, content))
            start, content, made = position, content + made, 0
    return found
