"""Reading safetensors without mapping them: a tensor goes piece by piece straight to its place in the model.

The official reader maps the file, so a loaded model and its file lie in memory together; here the peak is the model
and one piece. Format: https://huggingface.co/docs/safetensors, see ``tensor_files``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.tensor_files import DTYPE_NAMES, INDEX, SINGLE

_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the official reader."""
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    bytes: int


class TensorReader:
    """The tensors of a model folder, from one file or from shards, by name. A context manager."""

    def __init__(self, files: Mapping[str, Path], folder: Path) -> None:
        self.folder = folder
        self._file_of = dict(files)
        self._descriptors: dict[Path, int] = {}
        self._headers: dict[Path, dict[str, _Stored]] = {}

    @classmethod
    def of_folder(cls, folder: Path) -> TensorReader:
        """Open ``model.safetensors``, or the shards that ``model.safetensors.index.json`` names.

        Raises:
            ArrieroError: no weights, an unreadable index, or a shard that is missing or cut short.
        """
        if (folder / SINGLE).is_file():
            return cls.of_file(folder / SINGLE)
        if not (folder / INDEX).is_file():
            raise ArrieroError(
                f"{folder} has no weights: neither {SINGLE} nor {INDEX}{_other_weights(folder)}"
            )
        try:
            weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
            files = {str(name): folder / str(file) for name, file in weight_map.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ArrieroError(f"{folder / INDEX} is no index of safetensors shards") from None
        for file in sorted(set(files.values())):
            if file.parent != folder:
                raise ArrieroError(f"{folder / INDEX} names the shard {file}, which is outside the folder")
        return cls(files, folder)

    @classmethod
    def of_file(cls, path: Path) -> TensorReader:
        """Open one safetensors file."""
        reader = cls({}, path.parent)
        reader._file_of = dict.fromkeys(reader._header(path), path)
        return reader

    def names(self) -> set[str]:
        return set(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header alone."""
        return self._stored(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """dtype in which a tensor is stored."""
        return self._stored(name).dtype

    def read(self, name: str) -> Tensor:
        """The tensor, on the CPU, in the dtype it is stored in."""
        out = torch.empty(self.shape(name), dtype=self.dtype(name))
        self.read_into(name, out)
        return out

    def read_into(self, name: str, out: Tensor) -> None:
        """Fill ``out``, which has the tensor's shape and any dtype, piece by piece.

        Raises:
            ArrieroError: the file is cut short.
        """
        stored = self._stored(name)
        flat = out.view(-1) if out.is_contiguous() else None
        if flat is None or flat.device.type != "cpu" or flat.dtype != stored.dtype:
            self._read_converted(name, stored, out)
            return
        buffer = memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else memoryview(b"")
        self._fill(name, stored.start, buffer)

    def _read_converted(self, name: str, stored: _Stored, out: Tensor) -> None:
        target = out.view(-1) if out.is_contiguous() else torch.empty(out.shape, dtype=out.dtype).view(-1)
        size = stored.dtype.itemsize
        step = max(1, _PIECE_BYTES // size)
        for start in range(0, target.numel(), step):
            piece = torch.empty(min(step, target.numel() - start), dtype=stored.dtype)
            self._fill(name, stored.start + start * size, memoryview(piece.view(torch.uint8).numpy()))
            target[start : start + len(piece)] = piece.to(target.device)
        if not out.is_contiguous():
            out.copy_(target.view(out.shape))

    def _fill(self, name: str, start: int, buffer: memoryview) -> None:
        descriptor, done = self._descriptors[self._file_of[name]], 0
        while done < len(buffer):
            count = os.preadv(descriptor, [buffer[done : done + (1 << 30)]], start + done)
            if not count:
                raise ArrieroError(f"{self._file_of[name]} is cut short: tensor {name} is not whole")
            done += count

    def _stored(self, name: str) -> _Stored:
        path = self._file_of[name]
        header = self._header(path)
        if name not in header:
            raise ArrieroError(f"{path} does not hold the tensor {name} that the index says it does")
        return header[name]

    def _header(self, path: Path) -> dict[str, _Stored]:
        if path not in self._headers:
            try:
                self._descriptors[path] = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise ArrieroError(f"{path} is missing") from None
            except OSError as error:
                raise ArrieroError(f"{path} cannot be read: {error.strerror}") from None
            self._headers[path] = _read_header(self._descriptors[path], path)
        return self._headers[path]

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._headers.clear()

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _other_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if not pickles:
        return ""
    return f"; {pickles[0]} is a pickle, which Arriero never reads: convert it to safetensors"


def _read_header(descriptor: int, path: Path) -> dict[str, _Stored]:
    """Tensors by name, every figure checked against the file's size."""
    size = os.fstat(descriptor).st_size
    length = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if size < 8 or not 2 <= length <= min(_LONGEST_HEADER, size - 8):
        raise ArrieroError(
            f"{path} is damaged or no safetensors file: its header does not fit into its {size} bytes"
        )
    try:
        header = json.loads(os.pread(descriptor, length, 8))
        header.pop("__metadata__", None)
        return {name: _check_entry(entry, 8 + length, size) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ArrieroError(f"{path} is damaged or no safetensors file: {reason}") from None


def _check_entry(entry: dict[str, Any], data: int, file_size: int) -> _Stored:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {entry['dtype']} is not known")
    dtype = _DTYPES[entry["dtype"]]
    shape, (start, end) = entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ValueError("a shape or an offset is no whole number")
    count = 1
    for rows in shape:
        count *= rows
    if end - start != count * dtype.itemsize or data + end > file_size:
        raise ValueError(f"a tensor of shape {shape} does not fit its place in the file (cut short?)")
    return _Stored(dtype, tuple(shape), data + start, end - start)
