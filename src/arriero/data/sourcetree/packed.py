"""The content of a compressed archive in blocks of bounded size: gzip, zstd, bzip2 and xz, told by their first bytes."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Any

from arriero.data.readers.sources import (
    BLOCK,
    GZIP_MAGIC,
    ZSTD_MAGIC,
    FileSource,
    Problem,
    content_blocks,
)
from arriero.data.records import Limits

_BZIP2, _XZ = b"BZh", b"\xfd7zXZ\x00"
_MEMORY = 256 << 20
"""Most memory that a decoder's window may take."""
_PIECE = 1 << 16


def is_packed(source: FileSource) -> bool:
    """Whether the file is compressed, so that it can only be read from its beginning."""
    head = source.read(0, 6)
    return head.startswith((GZIP_MAGIC, ZSTD_MAGIC, _BZIP2, _XZ)) or head[1:4] == b"\x2a\x4d\x18"


def archive_blocks(source: FileSource, limits: Limits) -> Iterator[bytes | Problem]:
    """The content in order; last, what is wrong."""
    head = source.read(0, 6)
    if head.startswith(_BZIP2):
        return _unpacked(source, limits, bz2.BZ2Decompressor, "bzip2")
    if head.startswith(_XZ):
        return _unpacked(source, limits, lambda: lzma.LZMADecompressor(memlimit=_MEMORY), "xz")
    return content_blocks(source, limits)


def _unpacked(
    source: FileSource, limits: Limits, new: Callable[[], Any], kind: str
) -> Iterator[bytes | Problem]:
    """Streams one after the other, by decoders that keep the input they have not used yet."""
    position = made = 0
    unit, left = new(), b""
    begun = False
    while True:
        if unit.needs_input and not left:
            left = source.read(position, _PIECE)
            position += len(left)
            if not left:
                if begun:
                    yield Problem("read.truncated", f"the {kind} data stop in the middle, at byte {position}")
                return
        try:
            out, left = unit.decompress(left, BLOCK), b""
        except (OSError, EOFError, lzma.LZMAError, ValueError, MemoryError):
            yield Problem(f"read.{kind}", f"the {kind} data are damaged before byte {position}")
            return
        begun = True
        made += len(out)
        if out:
            yield out
        if made > limits.expansion * position + limits.record_bytes:
            yield Problem("read.expansion", f"{kind} data of {position} bytes give more than {made}")
            return
        if unit.eof:
            left = unit.unused_data.lstrip(b"\0")
            unit, begun = new(), False
