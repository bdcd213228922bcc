"""Parts as global steps see them: in canonical order, with rows numbered through all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import PARTIAL, write_json_atomic
from arriero.data.pipeline.part import Part
from arriero.errors import ArrieroError, DamagedArtifactError

SLOTS, ROWS, DROPS, CUTS = "slots.json", "rows", "drops", "cuts"

ROW = np.dtype([("alive", "?"), ("score", "<f8"), ("bytes", "<i8")])
"""A row of a part: whether the rules kept it, what its survivor rule compares (greater stays), UTF-8 bytes kept."""
DROP = np.dtype([
    ("row", "<i8"), ("survivor", "<i8"), ("cluster", "<i8"), ("size", "<i4"), ("value", "<f8"), ("threshold", "<f8"),
])  # fmt: skip
"""A document that falls: global row numbers of it, of what stays (-1: nothing), and the smallest of its cluster."""
CUT = np.dtype([("row", "<i8"), ("start", "<i4"), ("end", "<i4")])
"""Characters ``start`` to ``end`` of a text (after the worker's edits) that a step cuts."""


@dataclass(frozen=True)
class Slot:
    """A part's place: its rows are ``start`` to ``start + rows`` of all."""

    path: str
    name: str
    index: int
    start: int
    rows: int
    text_bytes: int


def open_slots(parts: Sequence[Path]) -> list[Slot]:
    """The parts by name, whatever their order.

    Raises:
        ArrieroError: two parts have one name.
        DamagedArtifactError: a folder is no part.
    """
    slots: list[Slot] = []
    for path in sorted((Path(path).resolve() for path in parts), key=lambda path: (path.name, str(path))):
        if slots and slots[-1].name == path.name:
            raise ArrieroError(
                f"{slots[-1].path} and {path} are parts of one name; their order would be open: rename one"
            )
        part = Part(path)
        start = slots[-1].start + slots[-1].rows if slots else 0
        slots.append(
            Slot(str(path), path.name, len(slots), start, len(part), int(part.about.get("kept_bytes", 0)))
        )
    return slots


def write_slots(work: Path, slots: Sequence[Slot]) -> None:
    """Leave the table of parts where tasks find it."""
    write_json_atomic(work / SLOTS, [asdict(slot) for slot in slots])


def read_slots(work: Path) -> list[Slot]:
    """The table of parts."""
    return [Slot(**slot) for slot in json.loads((work / SLOTS).read_bytes())]


def starts_of(slots: Sequence[Slot]) -> NDArray[np.int64]:
    """First global row of each part."""
    return np.array([slot.start for slot in slots], np.int64)


def parts_of_rows(rows: NDArray[np.int64], starts: NDArray[np.int64], n_rows: int) -> NDArray[np.int64]:
    """Index of the part of each global row; empty parts hold none."""
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < n_rows:
        raise ValueError(f"a row is not among the {n_rows}")
    return np.searchsorted(starts, rows, "right") - 1


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy file that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_array(path: Path, mapped: bool = False) -> NDArray[Any]:
    """Read a .npy file; ``mapped``: as a read-only memory map.

    Raises:
        DamagedArtifactError: it is missing or damaged.
    """
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedArtifactError(f"{path} is damaged ({error}); remove it and start again") from None
    return found


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Sorted, each once: ``numpy.unique``, which imports numpy's masked arrays."""
    values = np.sort(values)
    new = np.ones(len(values), np.bool_)
    new[1:] = values[1:] != values[:-1]
    return values[new]


def alive_rows(work: Path, slot: Slot, after: Sequence[str]) -> NDArray[np.bool_]:
    """bool[rows]: documents of the part that the rules and the steps of ``after`` left."""
    alive: NDArray[np.bool_] = load_array(work / ROWS / f"{slot.name}.npy")["alive"].copy()
    for step in after:
        path = work / step / DROPS / f"{slot.name}.npy"
        if path.exists():
            alive[load_array(path)["row"] - slot.start] = False
    return alive


def cuts_of(work: Path, slot: Slot, after: Sequence[str]) -> dict[int, list[tuple[int, int]]]:
    """Row in the part -> spans that the steps of ``after`` cut, in order and apart."""
    found: dict[int, list[tuple[int, int]]] = {}
    for step in after:
        path = work / step / CUTS / f"{slot.name}.npy"
        if path.exists():
            for cut in load_array(path):
                found.setdefault(int(cut["row"]) - slot.start, []).append(
                    (int(cut["start"]), int(cut["end"]))
                )
    return {row: join_spans(spans) for row, spans in found.items()}


def join_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order; those that touch or overlap are one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def texts_of(slot: Slot, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
    """(row in the part, text) of the rows that are wanted, in the order of the file."""
    if not wanted.any():
        return
    last = int(np.flatnonzero(wanted)[-1])
    for row, record in Part(Path(slot.path)).texts():
        if wanted[row]:
            yield row, record["text"]
        if row >= last:
            return


def pack(dtype: np.dtype[Any], **columns: Any) -> NDArray[Any]:
    """A structured array of columns of one length."""
    length = max((len(column) for column in columns.values() if np.ndim(column)), default=0)
    rows = np.empty(length, dtype)
    for name, column in columns.items():
        rows[name] = column
    return rows
