"""Tensors of a ``.pth`` file without unpickling it.

``torch.save`` writes a zip whose ``data.pkl`` says where each tensor lies; :mod:`arriero.models.torch_pickle` reads
that without running it. The tensors' bytes are read when they are asked for.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.torch_pickle import DAMAGE, ArchivedTensor, RefusedError, walk
from arriero.models.weight_source import pieces, short

_MAX_PICKLE = 1 << 26
_LOCAL_HEADER = 30


class TorchArchive:
    """A ``.pth`` file that holds a dictionary of tensors. A context manager."""

    def __init__(self, path: Path) -> None:
        """Read the directory.

        Raises:
            ArrieroError: no zip that torch wrote, damaged, or its pickle does anything but describe tensors.
        """
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ArrieroError(f"{path} cannot be read: {error.strerror}") from None
        try:
            self._size = path.stat().st_size
            self._records = self._read_directory()
            self.tensors = self._read_tensors()
        except BaseException:
            self._file.close()
            raise

    def read_into(self, name: str, out: Tensor) -> None:
        """Fill ``out`` with a tensor, piece by piece.

        Raises:
            ArrieroError: the file has become shorter since it was opened.
        """
        tensor = self.tensors[name]
        size = tensor.dtype.itemsize
        start = self._records[f"data/{tensor.key}"][0] + tensor.offset * size
        for first, part in pieces(out):
            self._file.seek(start + first * size)
            raw = bytearray(part.numel() * size)
            if self._file.readinto(raw) != len(raw):
                raise ArrieroError(f"{self.path} is cut short")
            if raw:
                part.copy_(torch.frombuffer(raw, dtype=tensor.dtype).view(part.shape))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------- the zip

    def _read_directory(self) -> dict[str, tuple[int, int]]:
        """Record -> (place of its bytes, their number). torch stores records uncompressed under one folder."""
        found: dict[str, tuple[int, int]] = {}
        try:
            with zipfile.ZipFile(self._file) as archive:
                for info in archive.infolist():
                    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                        raise ArrieroError(
                            f"{self.path}: {short(info.filename)} is compressed; torch stores plainly"
                        )
                    self._file.seek(info.header_offset)
                    head = self._file.read(_LOCAL_HEADER)
                    if len(head) < _LOCAL_HEADER or head[:4] != b"PK\x03\x04":
                        raise zipfile.BadZipFile
                    lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
                    start = info.header_offset + _LOCAL_HEADER + lengths
                    if start + info.file_size > self._size:
                        raise zipfile.BadZipFile
                    found[info.filename.partition("/")[2]] = (start, info.file_size)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, *DAMAGE):
            raise ArrieroError(
                f"{self.path} is damaged or no file that torch.save wrote (since torch 1.6 a zip)"
            ) from None
        if "data.pkl" not in found:
            raise ArrieroError(f"{self.path} is no file that torch.save wrote: it has no data.pkl")
        if found.get("byteorder", (0, 0))[1] and self._record("byteorder", found) != b"little":
            raise ArrieroError(f"{self.path} was written on a big-endian machine; little-endian is read")
        return found

    def _record(self, name: str, records: dict[str, tuple[int, int]]) -> bytes:
        start, size = records[name]
        if size > _MAX_PICKLE:
            raise ArrieroError(f"{self.path}: {name} has {size} bytes, too many for a directory of tensors")
        self._file.seek(start)
        return self._file.read(size)

    # ------------------------------------------------------------------------------------- the pickle

    def _read_tensors(self) -> dict[str, ArchivedTensor]:
        program = self._record("data.pkl", self._records)
        try:
            values = walk(program)
        except RefusedError as error:
            raise ArrieroError(
                f"{self.path} is refused: {error}; only tensors are read, nothing is run"
            ) from None
        except DAMAGE:
            raise ArrieroError(f"{self.path}: its data.pkl is damaged or describes no tensors") from None
        if not isinstance(values, dict):
            raise ArrieroError(f"{self.path} holds no dictionary of tensors")
        tensors = {name: item for name, item in values.items() if isinstance(item, ArchivedTensor)}
        for name in values:
            if not isinstance(name, str) or name not in tensors or not name.isprintable():
                raise ArrieroError(f"{self.path}: the entry {short(name)} is no tensor")
        for name, tensor in tensors.items():
            self._check(name, tensor)
        return tensors

    def _check(self, name: str, tensor: ArchivedTensor) -> None:
        _, size = self._records.get(f"data/{tensor.key}", (0, 0))
        needed = tensor.offset + math.prod(tensor.shape)
        if needed * tensor.dtype.itemsize > size:
            raise ArrieroError(f"{self.path} is damaged or cut short: tensor {short(name)} is not in it")
