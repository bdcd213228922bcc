"""safetensors files: written tensor by tensor with a size known beforehand, read with every fault told in one line.

Format: 8 bytes little-endian length of the header, the header in JSON (name -> dtype, shape, byte range),
then the tensors' bytes one after the other (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from arriero.errors import ArrieroError, did_you_mean

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_DTYPE_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
FLOAT_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def float_dtype(name: str) -> torch.dtype:
    """The torch dtype of a configuration's name.

    Raises:
        ArrieroError: not one that weights are stored in.
    """
    if name not in FLOAT_DTYPES:
        raise ArrieroError(f"unknown dtype '{name}' of weights{did_you_mean(name, FLOAT_DTYPES)}")
    return FLOAT_DTYPES[name]


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to be written, and where to get it when its turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def _header(entries: Iterable[TensorEntry]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        end = offset + entry.bytes
        header[entry.name] = {
            "dtype": _DTYPE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data start at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text


def _in_file_order(entries: Iterable[TensorEntry]) -> list[TensorEntry]:
    """Wide dtypes first, so that every tensor is aligned; then by name."""
    return sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))


def file_bytes(entries: Iterable[TensorEntry]) -> int:
    """Exact size of the file that :func:`write_tensors` makes of these entries, without reading a tensor."""
    ordered = _in_file_order(entries)
    return len(_header(ordered)) + sum(entry.bytes for entry in ordered)


def write_tensors(path: Path, entries: Iterable[TensorEntry]) -> None:
    """Write a safetensors file holding one tensor in memory at a time."""
    ordered = _in_file_order(entries)
    with path.open("wb") as file:
        file.write(_header(ordered))
        for entry in ordered:
            tensor = entry.read().detach().to("cpu", entry.dtype).contiguous()
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


class TensorReader:
    """The tensors of a model folder, from one file or from shards, by name. A context manager."""

    def __init__(self, files: Mapping[str, Path], folder: Path) -> None:
        self.folder = folder
        self._file_of = dict(files)
        self._open: dict[Path, Any] = {}

    @classmethod
    def of_folder(cls, folder: Path) -> TensorReader:
        """Open ``model.safetensors``, or the shards that ``model.safetensors.index.json`` names.

        Raises:
            ArrieroError: no weights, an unreadable index, or a shard that is missing or cut short.
        """
        if (folder / SINGLE).is_file():
            return cls.of_file(folder / SINGLE)
        if not (folder / INDEX).is_file():
            raise ArrieroError(f"{folder} has no weights: neither {SINGLE} nor {INDEX}")
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
        reader._file_of = dict.fromkeys(reader._handle(path).keys(), path)
        return reader

    def names(self) -> set[str]:
        return set(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header alone."""
        return tuple(self._part(name).get_shape())

    def read(self, name: str) -> Tensor:
        """The tensor, on the CPU, in the dtype it is stored in."""
        path = self._file_of[name]
        try:
            tensor: Tensor = self._handle(path).get_tensor(name)
        except SafetensorError as error:
            raise ArrieroError(f"{path}: tensor {name} cannot be read: {error}") from None
        return tensor

    def _part(self, name: str) -> Any:
        path = self._file_of[name]
        try:
            return self._handle(path).get_slice(name)
        except SafetensorError:
            raise ArrieroError(
                f"{path} does not hold the tensor {name} that the index says it does"
            ) from None

    def _handle(self, path: Path) -> Any:
        if path not in self._open:
            try:
                self._open[path] = safe_open(path, framework="pt").__enter__()
            except FileNotFoundError:
                raise ArrieroError(f"{path} is missing") from None
            except (SafetensorError, OSError) as error:
                raise ArrieroError(f"{path} is damaged or no safetensors file: {error}") from None
        return self._open[path]

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._open.values():
            handle.__exit__(kind, error, trace)
        self._open.clear()
