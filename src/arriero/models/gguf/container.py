"""The GGUF container, read with distrust: every length is checked against the file before anything is allocated.

Layout: "GGUF", version, number of tensors, number of metadata; the metadata (key, type, value); for each tensor
name, dimensions (fastest first), type, offset; then, aligned, the data. Little-endian.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The `gguf` package is not used to read: it believes every length it meets, makes an object for each of a
vocabulary's strings (seconds where this takes a tenth) and has whole tensors in memory more than once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from arriero.errors import ArrieroError
from arriero.models.gguf.block_types import BY_ID, BlockType
from arriero.models.weight_source import short

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
MAX_DIMENSIONS = 4

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_NESTING = 4
_LONGEST_NAME = 256


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies. ``shape`` is in the usual order: the last dimension runs fastest."""

    shape: tuple[int, ...]
    kind: BlockType
    start: int

    @property
    def values(self) -> int:
        return int(np.prod(self.shape, dtype=object))

    @property
    def bytes(self) -> int:
        return self.kind.size(self.values)


class Container:
    """One GGUF file: its metadata, its tensors by name, and their bytes on demand."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ArrieroError: not a GGUF file, cut short, damaged, or of a version or type that is not known.
        """
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb", buffering=1 << 16)
            self._size = path.stat().st_size
        except OSError as error:
            raise ArrieroError(f"{path} cannot be read: {error.strerror}") from None
        try:
            self._read_header()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self, tensor: StoredTensor, first: int, count: int) -> npt.NDArray[np.uint8]:
        """The bytes that hold ``count`` values from ``first`` on, both multiples of the type's block.

        Raises:
            ArrieroError: the file has become shorter since it was opened.
        """
        self._file.seek(tensor.start + tensor.kind.size(first))
        raw = np.empty(tensor.kind.size(count), dtype=np.uint8)
        if self._file.readinto(raw.data) != len(raw):  # type: ignore[attr-defined]
            raise ArrieroError(f"{self.path} is cut short")
        return raw

    # ------------------------------------------------------------------------------------- header

    def _read_header(self) -> None:
        if self._size < 24 or self._take(4) != MAGIC:
            raise ArrieroError(f"{self.path} is no GGUF file: it does not begin with {MAGIC.decode()}")
        version = self._number("I")
        if version not in VERSIONS:
            turned = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            reason = "is big-endian" if turned else f"has version {version}"
            raise ArrieroError(f"{self.path} {reason}; Arriero reads little-endian GGUF 2 and 3")
        n_tensors, n_metadata = self._number("Q"), self._number("Q")
        self._check_count(n_metadata, 13, "metadata")
        self._check_count(n_tensors, 24, "tensors")
        self.metadata: dict[str, Any] = {}
        for _ in range(n_metadata):
            key = self._string()
            if key in self.metadata:
                raise self._damaged(f"the key {short(key)} stands twice")
            self.metadata[key] = self._value(self._number("I"), 0)
        found = [self._tensor_entry() for _ in range(n_tensors)]
        self._place(found)

    def _place(self, found: list[tuple[str, tuple[int, ...], BlockType, int]]) -> None:
        """Turn offsets into places in the file, each of them inside."""
        alignment = self.metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {short(alignment)}, not a power of two")
        base = -(-self._file.tell() // alignment) * alignment
        self.tensors: dict[str, StoredTensor] = {}
        for name, shape, kind, offset in found:
            tensor = StoredTensor(shape, kind, base + offset)
            if name in self.tensors:
                raise self._damaged(f"the tensor {short(name)} stands twice")
            if offset % alignment or tensor.start + tensor.bytes > self._size:
                raise ArrieroError(f"{self.path} is damaged or cut short: tensor {short(name)} is not in it")
            self.tensors[name] = tensor

    def _tensor_entry(self) -> tuple[str, tuple[int, ...], BlockType, int]:
        name, n_dimensions = self._string(), self._number("I")
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise self._damaged(f"a tensor is called {short(name)}")
        if not 1 <= n_dimensions <= MAX_DIMENSIONS:
            raise self._damaged(f"tensor {short(name)} has {n_dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(n_dimensions))[::-1]
        number, offset = self._number("I"), self._number("Q")
        kind = BY_ID.get(number)
        if kind is None:
            known = ", ".join(kind.name for kind in BY_ID.values())
            raise ArrieroError(
                f"{self.path}: tensor {short(name)} is stored as ggml type {number}; Arriero reads {known}"
            )
        if 0 in shape or any(size > self._size * 8 for size in shape) or shape[-1] % kind.values:
            raise self._damaged(f"tensor {short(name)} has shape {list(shape)} as {kind.name}")
        return name, shape, kind, offset

    def _value(self, kind: int, depth: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY and depth < _MAX_NESTING:
            return self._array(depth)
        code = _SCALARS.get(kind)
        if code is None:
            raise self._damaged(f"metadata of type {kind}")
        value = self._number(code)
        # the shortest decimal that gives the same float32: 1e-05 and not 9.999999747378752e-06
        return float(str(np.float32(value))) if code == "f" else value

    def _array(self, depth: int) -> list[Any]:
        kind, count = self._number("I"), self._number("Q")
        code = _SCALARS.get(kind)
        if code is not None:
            size = struct.calcsize(f"<{code}")
            self._check_count(count, size, "an array")
            dtype = np.bool_ if code == "?" else np.dtype(f"<{np.dtype(code).str[1:]}")
            return list(np.frombuffer(self._take(count * size), dtype).tolist())
        self._check_count(count, 8, "an array")
        if kind == _STRING:
            return self._strings(count)
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _strings(self, count: int) -> list[Any]:
        """So many strings: a vocabulary has 50,000 and more, so this is :meth:`_string` without its detours."""
        read, length_of, at = self._file.read, struct.Struct("<Q").unpack, self._file.tell()
        found = []
        for _ in range(count):
            head = read(8)
            if len(head) < 8 or length_of(head)[0] > self._size - at - 8:
                self._file.seek(at)
                self._string()  # says what is wrong
            raw = self._take(length_of(head)[0])
            try:
                found.append(raw.decode("utf-8"))
            except UnicodeDecodeError:
                raise self._damaged(f"the string at byte {at + 8} is not UTF-8") from None
            at += 8 + len(raw)
        return found

    def _string(self) -> str:
        length = self._number("Q")
        self._check_count(length, 1, "a string")
        at = self._file.tell()
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self._damaged(f"the string at byte {at} is not UTF-8") from None

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._take(struct.calcsize(f"<{code}")))[0]

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            raise ArrieroError(f"{self.path} is cut short: its header has no end")
        return data

    def _check_count(self, count: int, size: int, what: str) -> None:
        """``count`` things of at least ``size`` bytes must fit into the rest of the file."""
        if count * size > self._size - self._file.tell():
            raise self._damaged(f"the length of {what} at byte {self._file.tell()} goes beyond the file")

    def _damaged(self, what: str) -> ArrieroError:
        return ArrieroError(f"{self.path} is a damaged GGUF file: {what}")
