"""Writing safetensors, tensor by tensor, in one file or in shards, with sizes known beforehand.

Format: 8 bytes little-endian length of the header, the header in JSON (name -> dtype, shape, byte range),
then the tensors' bytes one after the other (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError, did_you_mean

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

DTYPE_NAMES = {
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
            "dtype": DTYPE_NAMES[entry.dtype],
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


def shards(entries: Iterable[TensorEntry], most_bytes: int) -> dict[str, list[TensorEntry]]:
    """File name -> its tensors: one file, or shards of at most ``most_bytes`` (or one larger tensor) each."""
    groups: list[list[TensorEntry]] = [[]]
    filled = 0
    for entry in entries:
        if groups[-1] and filled + entry.bytes > most_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(entry)
        filled += entry.bytes
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    return {
        f"model-{n:05d}-of-{len(groups):05d}.safetensors": group for n, group in enumerate(groups, start=1)
    }


def write_shards(folder: Path, entries: Iterable[TensorEntry], most_bytes: int) -> None:
    """Write a folder's weights as Hugging Face does: the files of :func:`shards`, and an index if there are several."""
    files = shards(entries, most_bytes)
    for name, group in files.items():
        write_tensors(folder / name, group)
    if len(files) > 1:
        total = sum(entry.bytes for group in files.values() for entry in group)
        weight_map = {entry.name: name for name, group in files.items() for entry in group}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_json_atomic(folder / INDEX, index)
