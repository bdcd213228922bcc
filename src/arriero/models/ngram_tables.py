"""The tables of a back-off model, how n-grams are found in them, and the folder they are saved in.

``P(w|h)`` is ``p[hw]`` where the table has ``hw``, else ``backoff[h] P(w|h')`` with ``h'`` the context without its first
token, and 1 in place of ``backoff[h]`` where the table has no ``h``. Interpolated models are written in this form
too: their ``p[hw]`` contains the share of the lower orders, and the back-off weight is the interpolation weight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError
from arriero.models.ngram_columns import Column

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CONFIG, TABLES = "ngram.json", "ngram.safetensors"
FORMAT = "arriero.ngram/2"
_COPIED_AT_ONCE = 1 << 20


def find_rows(table: Ints, keys: Ints) -> Ints:
    """Row of each key in the sorted table, -1 for those that are not in it."""
    if not table.size:
        return np.full(keys.shape, -1, np.int64)
    rows = np.searchsorted(table, keys)
    rows[rows == table.size] = 0
    return np.where(table[rows] == keys, rows, -1)


@dataclass(frozen=True)
class Level:
    """One order: ``keys`` int64 [R] sorted (see ``ngram_counts``), ``p`` float64 [R], ``backoff`` float64 [R].

    At order 1 there are ``vocab_size`` rows, and the keys are the token ids. The highest order has no ``backoff``.
    """

    keys: Ints
    p: Floats
    backoff: Floats


@dataclass(frozen=True)
class Tables:
    """A whole model. ``levels[n - 1]`` is order n. ``seen``: tokens of the vocabulary that the text held."""

    vocab_size: int
    seen: int
    levels: list[Level]
    about: dict[str, Any] = field(default_factory=dict)
    """What the model was made of and how, for the reader."""

    @property
    def order(self) -> int:
        return len(self.levels)

    def rows_of(self, grams: Ints) -> Ints:
        """Rows of n-grams [R, n] in the table of order n, -1 for those that are not in it."""
        rows = grams[:, 0].astype(np.int64)
        for level, tokens in zip(self.levels[1:], grams.T[1:], strict=False):
            rows = np.where(rows >= 0, find_rows(level.keys, rows * self.vocab_size + tokens), -1)
        return rows

    def grams_of(self, n: int, start: int, stop: int) -> Ints:
        """The token ids [stop - start, n] of rows of order n."""
        grams = np.empty((stop - start, n), np.int64)
        rows = np.arange(start, stop)
        for place in range(n - 1, 0, -1):
            rows, grams[:, place] = np.divmod(self.levels[place].keys[rows], self.vocab_size)
        grams[:, 0] = rows
        return grams

    def parameter_counts(self) -> dict[str, int]:
        """N-grams by order."""
        return {"1-gram": self.seen} | {
            f"{n}-gram": int(level.keys.size) for n, level in enumerate(self.levels[1:], start=2)
        }


# ---------------------------------------------------------------- the folder


def columns_of(tables: Tables) -> dict[str, Column]:
    """The arrays of a model by the names they have in the file."""
    found: dict[str, Column] = {}
    for n, level in enumerate(tables.levels, start=1):
        found[f"p.{n}"] = Column.of(level.p)
        if n > 1:
            found[f"keys.{n}"] = Column.of(level.keys)
        if n < tables.order:
            found[f"backoff.{n}"] = Column.of(level.backoff)
    return found


def config_values(order: int, vocab_size: int, seen: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """``ngram.json``."""
    head = {"format": FORMAT, "family": "ngram", "order": order, "vocab_size": vocab_size, "seen": seen}
    return head | {"about": dict(about)}


def write_folder(folder: Path, config: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
    """Write ``ngram.json`` and ``ngram.safetensors``, the columns piece by piece."""
    folder.mkdir(parents=True, exist_ok=True)
    header = _header({name: (column.dtype, len(column)) for name, column in columns.items()})
    with (folder / TABLES).open("wb") as file:
        file.write(header)
        for column in columns.values():
            for start in range(0, len(column), _COPIED_AT_ONCE):
                stop = min(start + _COPIED_AT_ONCE, len(column))
                column.read(start, stop).astype(column.dtype.newbyteorder("<")).tofile(file)
    write_json_atomic(folder / CONFIG, dict(config))


def tables_bytes(shapes: Mapping[str, tuple[np.dtype[Any], int]]) -> int:
    """Size of ``ngram.safetensors`` that holds arrays of these names, dtypes and lengths."""
    return len(_header(shapes)) + sum(dtype.itemsize * length for dtype, length in shapes.values())


def _header(shapes: Mapping[str, tuple[np.dtype[Any], int]]) -> bytes:
    """The head of a safetensors file whose arrays all have items of 8 bytes."""
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, length) in shapes.items():
        begin, end = end, end + dtype.itemsize * length
        kind = {"f": "F64", "i": "I64"}[dtype.kind]
        header[name] = {"dtype": kind, "shape": [length], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data start at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text


def is_ngram_folder(folder: Path) -> bool:
    """Whether the folder holds an n-gram model."""
    return (folder / CONFIG).is_file()


def read_folder_config(folder: Path) -> dict[str, Any]:
    """``ngram.json`` of the folder: ``order``, ``vocab_size``, ``about`` and more.

    Raises:
        ArrieroError: the folder holds no n-gram model, or one of another format.
    """
    try:
        head: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        if head["format"] != FORMAT:
            raise ArrieroError(
                f"{folder / CONFIG} is of format {head['format']!r}, not {FORMAT!r}; fit the model anew"
            )
        if not (int(head["order"]) >= 1 and int(head["vocab_size"]) >= 1 and int(head["seen"]) >= 0):
            raise ValueError
    except FileNotFoundError:
        raise ArrieroError(f"{folder} holds no n-gram model: {CONFIG} is missing") from None
    except (ValueError, KeyError, TypeError):
        raise ArrieroError(f"{folder / CONFIG} cannot be read: it is no {FORMAT}") from None
    return head


def read_folder(folder: Path) -> Tables:
    """What :func:`write_folder` wrote.

    Raises:
        ArrieroError: the folder holds no n-gram model, or a damaged one.
    """
    head = read_folder_config(folder)
    path = folder / TABLES
    if not path.is_file():
        raise ArrieroError(f"{folder} holds no n-gram model: {TABLES} is missing")
    try:
        arrays = load_file(path)
    except Exception as error:  # safetensors raises its own class, and others
        raise ArrieroError(f"{path} cannot be read: {error}") from None
    order, vocab_size = int(head["order"]), int(head["vocab_size"])
    ids = np.arange(vocab_size)
    try:
        levels = [
            Level(
                arrays[f"keys.{n}"] if n > 1 else ids, arrays[f"p.{n}"],
                arrays[f"backoff.{n}"] if n < order else np.ones(0),
            )
            for n in range(1, order + 1)
        ]  # fmt: skip
    except KeyError as error:
        raise ArrieroError(f"{path} cannot be read: it has no table {error}") from None
    for n, level in enumerate(levels, start=1):
        rows = level.keys.size
        if level.p.shape != (rows,) or level.backoff.shape != (rows if n < order else 0,):
            raise ArrieroError(f"{path} cannot be read: the tables of order {n} do not fit each other")
    return Tables(vocab_size, int(head["seen"]), levels, head.get("about", {}))
