"""A file of JSON lines in zstd frames, so that one line is read without those before it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import orjson
import zstandard
from numpy.typing import NDArray

from arriero.data.files import open_bytes
from arriero.errors import ArrieroError, DamagedArtifactError

FRAME_BYTES = 1 << 20
"""Bytes of JSON that a frame holds at least, but for the last."""
_LEVEL = 3


class FramedWriter:
    """Writes objects as JSON lines; ``places`` says where each one lies."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self._packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._offset = 0
        self._places: list[tuple[int, int]] = []
        self.written_bytes = 0
        """Bytes of JSON taken so far."""

    def __enter__(self) -> FramedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def add(self, value: Any) -> int:
        """Append an object; returns its number among those written."""
        line = orjson.dumps(value) + b"\n"
        self._places.append((self._offset, self._pending_bytes))
        self._pending.append(line)
        self._pending_bytes += len(line)
        self.written_bytes += len(line)
        if self._pending_bytes >= FRAME_BYTES:
            self._flush()
        return len(self._places) - 1

    def close(self) -> None:
        """Write the last frame; nothing is written after that."""
        if not self._file.closed:
            self._flush()
            self._file.close()

    @property
    def places(self) -> NDArray[np.int64]:
        """int64[n, 2]: the frame's offset in the file, the line's offset in the frame."""
        return np.array(self._places, np.int64).reshape(-1, 2)

    def _flush(self) -> None:
        if self._pending:
            packed = self._packer.compress(b"".join(self._pending))
            self._file.write(packed)
            self._offset += len(packed)
            self._pending, self._pending_bytes = [], 0


def read_at(path: Path, place: NDArray[np.int64] | tuple[int, int]) -> Any:
    """The object at one place. The last few frames stay in memory, so that neighbours cost little.

    Raises:
        DamagedArtifactError: the file does not hold it.
    """
    frame, start = int(place[0]), int(place[1])
    try:
        content = _frame(path, path.stat().st_mtime_ns, frame)
        return orjson.loads(content[start : content.index(b"\n", start)])
    except (ValueError, zstandard.ZstdError) as error:
        raise DamagedArtifactError(f"{path} is damaged at {frame}: {error}") from None


@lru_cache(maxsize=4)
def _frame(path: Path, changed: int, offset: int) -> bytes:
    """A frame's content. ``changed``: the file's time, so that another file of that name is not taken for it."""
    with path.open("rb") as file:
        file.seek(offset)
        return bytes(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=False).read(-1))


def iter_framed(path: Path) -> Iterator[Any]:
    """All objects, in order; memory is that of a frame.

    Raises:
        DamagedArtifactError: the file is damaged or cut short.
    """
    try:
        with open_bytes(path) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    raise DamagedArtifactError(f"{path} is cut short")
                yield orjson.loads(line)
    except (ArrieroError, ValueError) as error:
        raise DamagedArtifactError(
            str(error) if isinstance(error, ArrieroError) else f"{path}: {error}"
        ) from None
