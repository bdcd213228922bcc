"""Raw bytes from plain, gzip and zstd files, line by line, with one clear line for what is wrong with a file."""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from arriero.errors import ArrieroError
from arriero.tokenization.zstd import ZstdReader

_BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 20
_EXACT_BELOW = 32 << 20
"""Compressed files up to this size are decompressed to learn how much is in them."""


@dataclass(frozen=True)
class Line:
    """One line without its line feed: its number from 1, its first byte's offset, its bytes."""

    number: int
    offset: int
    data: bytes


def needs_extra(module: str, path: Path) -> Any:
    """Import a module of the extra [data].

    Raises:
        ArrieroError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise ArrieroError(
            f"reading {path} needs the package {package}: install it with pip install 'arriero[data]'"
        ) from None


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The file's decompressed bytes, by its ending: .gz, .zst or plain.

    Raises:
        ArrieroError: it is not there, cannot be read, or its compression is damaged.
    """
    damage: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
    try:
        if path.suffix == ".zst":
            zstandard = needs_extra("zstandard", path)
            damage = (*damage, zstandard.ZstdError)
            with path.open("rb") as raw:
                yield io.BufferedReader(ZstdReader(raw, zstandard.ZstdDecompressor().decompressobj), _BLOCK)
        elif path.suffix == ".gz":
            with gzip.open(path, "rb") as packed:
                yield io.BufferedReader(packed, _BLOCK)
        else:
            with path.open("rb") as file:
                yield file
    except damage as error:
        raise ArrieroError(f"{path} is damaged or cut short: {error}") from None
    except FileNotFoundError:
        raise ArrieroError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise ArrieroError(f"{path} is a folder; a file is expected") from None
    except PermissionError:
        raise ArrieroError(f"{path} may not be read (permission denied)") from None


def iter_lines(path: Path) -> Iterator[Line]:
    """Lines of a file, cut at line feeds only (other Unicode line ends are text); a leading BOM is dropped."""
    with open_bytes(path) as file:
        offset = 0
        for number, raw in enumerate(file, 1):
            data = raw.removesuffix(b"\n")
            yield Line(number, offset, data.removeprefix(_BOM) if number == 1 else data)
            offset += len(raw)


def content_bytes(path: Path) -> int:
    """Bytes in a file after decompression: counted, or for a large .gz read from its trailer (ISIZE, RFC 1952;
    right for one member under 4 GiB), for a large .zst taken as four times its size."""
    size = path.stat().st_size
    if path.suffix not in (".gz", ".zst"):
        return size
    if size <= _EXACT_BELOW:
        with open_bytes(path) as file:
            return sum(len(block) for block in iter(lambda: file.read(_BLOCK), b""))
    if path.suffix == ".zst":
        return 4 * size
    with path.open("rb") as raw:
        raw.seek(-4, 2)
        isize = int.from_bytes(raw.read(4), "little")
    return max(isize, size)
