"""The meter's file: one line a sample, only ever appended, so that a kill loses what came after the last line.

A line that begins a process names the columns; the lines below it hold that process' totals so far. What a process used
is its last whole line, so no second is in the sum twice, however often it was written down.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

FORMAT = "arriero.meter/2"
_SYNC_EVERY = 30
"""Samples between two that are forced to the disk: a kill loses none of the others, a power cut may."""


class Segment(BaseModel):
    """What one process used between two moments, or up to a sample."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wall_seconds: float
    cpu_seconds: float
    steal_seconds: float
    peak_bytes: int
    flops: float
    cpu_pressure_seconds: float = 0.0
    memory_pressure_seconds: float = 0.0
    asleep_seconds: float = 0.0
    jumped_seconds: float = 0.0
    gap_seconds: float = 0.0
    proportional_bytes: int = 0
    package_joules: float | None = None
    package_filled_joules: float = 0.0
    accelerator_joules: float | None = None
    accelerator_filled_joules: float = 0.0
    accelerator_polled: bool = False
    ended: bool = False
    """False for a process that was killed: what came after its last sample is not in it."""


_COLUMNS = list(Segment.model_fields)


class MeterFile:
    """Appends one process' samples to the file of a stage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self._written = 0
        self._torn = False

    def begin(self, at: str) -> None:
        """Write the line that begins this process' samples; ``at`` is its UTC time.

        Raises:
            OSError: the disk does not take it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._handle).st_size
        self._torn = size > 0 and os.pread(self._handle, 1, size - 1) != b"\n"
        self._line({"format": FORMAT, "at": at, "columns": _COLUMNS})

    def add(self, sample: Segment) -> None:
        """Append a sample.

        Raises:
            OSError: the disk does not take it; the next one may be taken again.
        """
        if self._handle is None:
            raise OSError("the meter's file is not open")
        values = sample.model_dump()
        self._line([_short(values[name]) for name in _COLUMNS])
        if sample.ended or self._written % _SYNC_EVERY == 1:
            os.fsync(self._handle)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _line(self, value: Any) -> None:
        assert self._handle is not None
        data = (("\n" if self._torn else "") + json.dumps(value, separators=(",", ":")) + "\n").encode()
        self._torn = True
        self._torn = os.write(self._handle, data) != len(data)
        self._written += 1
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_samples(path: Path) -> list[list[Segment]]:
    """The samples of every process that worked on the stage, in order. Lines cut short by a kill are left out.

    Raises:
        ValueError: the file is not a meter's.
    """
    found: dict[int, list[Segment]] = {}
    for process, sample in _samples(path):
        found.setdefault(process, []).append(_segment(sample, path))
    return list(found.values())


def read_totals(path: Path) -> list[Segment]:
    """What each process used: its last whole sample. Processes without any are left out.

    Raises:
        ValueError: see :func:`read_samples`.
    """
    last = dict(
        _samples(path)
    )  # a later sample takes the earlier one's place: months of them are read in little memory
    return [_segment(sample, path) for sample in last.values()]


def _samples(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the process, columns and values) of every sample."""
    columns: list[str] = []
    process = -1
    for line in _lines(path):
        if isinstance(line, dict) and line.get("format") == FORMAT and isinstance(line.get("columns"), list):
            columns, process = line["columns"], process + 1
        elif isinstance(line, list) and columns and len(line) == len(columns):
            yield process, dict(zip(columns, line, strict=True))
        else:
            raise ValueError(f"{path.name} holds a line that is no sample of this version")


def _segment(sample: dict[str, Any], path: Path) -> Segment:
    try:
        return Segment.model_validate(sample)
    except ValidationError:
        raise ValueError(f"{path.name} holds a line that is no sample of this version") from None


def _lines(path: Path) -> Iterator[Any]:
    """The lines that are whole JSON. A torn one is passed over: it can only be the last of its process."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for raw in file:
            try:
                yield json.loads(raw)
            except ValueError:
                continue


def _short(value: Any) -> Any:
    """Microseconds and microjoules are enough."""
    return round(value, 6) if isinstance(value, float) else value
