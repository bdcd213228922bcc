"""Where reading of a bzip2 file of several streams can begin, without reading all of it.

A stream begins on a byte: ``BZh``, a digit, and the first block's magic number (pi). Since these ten bytes might stand in
compressed data, what lies before must be the end of a stream too: the number 0x177245385090, a CRC, and up to seven bits
of zeros. Together 128 bits have to be right.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

_BEGIN = re.compile(rb"BZh[1-9]\x31\x41\x59\x26\x53\x59")
_BEGIN_BYTES = 10
_END = 0x177245385090
_END_BYTES = 11
"""48 bits of magic number, 32 of CRC, and up to 7 of padding."""
_BLOCK = 1 << 20
_FIRST_WITHIN = 64 << 20
"""A file without a second stream in its first so many bytes is taken for one stream."""


def stream_starts(path: Path, split_bytes: int) -> list[int]:
    """Streams at about every ``split_bytes`` of the file: the first one, then each time the next one after so many
    bytes. Reads about as much as a stream is long for each; [0] of a file of one stream."""
    starts = [0]
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size <= split_bytes or _next_start(file, 1, min(size, _FIRST_WITHIN)) is None:
            return starts
        while (found := _next_start(file, starts[-1] + max(split_bytes, 1), size)) is not None:
            starts.append(found)
    return starts


def _next_start(file: BinaryIO, position: int, end: int) -> int | None:
    """The first stream that begins at ``position`` or later, before ``end``."""
    position = max(position, _END_BYTES)
    while position < end:
        file.seek(position - _END_BYTES)
        data = file.read(_END_BYTES + _BLOCK + _BEGIN_BYTES - 1)
        for found in _BEGIN.finditer(data, _END_BYTES):
            at = found.start()
            if at < _END_BYTES + _BLOCK and _is_end(data[at - _END_BYTES : at]):
                return position - _END_BYTES + at
        position += _BLOCK
    return None


def _is_end(tail: bytes) -> bool:
    """Whether these bytes are the last ones of a stream."""
    bits = int.from_bytes(tail, "big")
    return any(
        (bits >> 32 + padding) & (1 << 48) - 1 == _END and not bits & (1 << padding) - 1
        for padding in range(8)
    )
