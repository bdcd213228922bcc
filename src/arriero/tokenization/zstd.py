"""Decompressing zstd with one's eyes open: a frame that is cut short is noticed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

_BLOCK = 1 << 20


class ZstdReader(io.RawIOBase):
    """Frames of a zstd file one after the other; unlike the library's own reader it notices a frame cut short."""

    def __init__(self, raw: BinaryIO, new_frame: Callable[[], Any]) -> None:
        self._raw, self._new_frame = raw, new_frame
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._raw.read(_BLOCK)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the last frame has no end")
                return 0
            self._unpack(packed)
        taken = self._ready[: len(buffer)]
        buffer[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)

    def _unpack(self, packed: bytes) -> None:
        parts = []
        while packed:
            self._frame = self._frame or self._new_frame()
            parts.append(self._frame.decompress(packed))
            packed = b""
            if self._frame.eof:
                packed, self._frame = self._frame.unused_data, None
        self._ready = memoryview(b"".join(parts))
