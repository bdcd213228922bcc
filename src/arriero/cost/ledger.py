"""The ledger: what was predicted and what it took, one JSON line each, only ever appended.

Every line carries a hash over itself and the line before (``chain``), and a plan's line the SHA-256 of the stored
plan file: a prediction that was edited after the run does not pass for the real one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from arriero.artifacts.hashing import canonical_json, sha256_file
from arriero.cost.estimate import Estimate
from arriero.cost.meter import Measurement
from arriero.cost.quantity import Quantity
from arriero.errors import ArrieroError, DamagedArtifactError

_CHAIN = "chain"


@dataclass(frozen=True)
class Comparison:
    """How a prediction fared. Both are None when either side is unknown, ``error`` also when nothing was measured."""

    error: float | None
    """predicted / measured - 1: +0.2 says that 20 % too much was predicted."""
    inside: bool | None
    """Whether the measured value lies in the predicted band."""


@dataclass(frozen=True)
class Row:
    """One quantity of one stage that was run: predicted beside measured."""

    at: str
    stage: str
    kind: str
    quantity: str
    predicted: Quantity
    measured: Quantity
    error: float | None
    inside: bool | None


def compare(predicted: Quantity, measured: Quantity) -> Comparison:
    """The signed relative error of a prediction, and whether its band held.

    Raises:
        ValueError: the two are of different units.
    """
    if predicted.value is None or measured.value is None or predicted.low is None or predicted.high is None:
        return Comparison(None, None)
    if predicted.unit != measured.unit:
        raise ValueError(f"cannot compare {predicted.unit} with {measured.unit}")
    inside = predicted.low <= measured.value <= predicted.high
    if measured.value == 0:
        return Comparison(0.0 if predicted.value == 0 else None, inside)
    return Comparison(predicted.value / measured.value - 1, inside)


class Ledger:
    """The ledger file of a run folder. Paths in its lines are relative to the file's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        """What the last :meth:`read` stumbled over, a line each."""

    def append(self, record: dict[str, Any]) -> None:
        """Write one record durably, in a single write at the end of the file.

        Raises:
            ArrieroError: the record has no type, or is no JSON, or the disk does not take it.
        """
        if not isinstance(record.get("type"), str) or _CHAIN in record:
            raise ArrieroError("a ledger record needs a 'type' and no 'chain'")
        try:
            text = canonical_json(record)
        except (TypeError, ValueError) as error:
            raise ArrieroError(f"a ledger record has to be JSON: {error}") from None
        lines, torn = self._lines()
        previous = lines[-1][_CHAIN] if lines else ""
        line = json.dumps({**record, _CHAIN: _link(previous, text)}, ensure_ascii=False) + "\n"
        try:
            _append_bytes(self.path, (("\n" if torn else "") + line).encode())
        except OSError as error:
            raise ArrieroError(f"{self.path}: the ledger could not be written: {error.strerror}") from None

    def read(self) -> list[dict[str, Any]]:
        """All records in order. Torn lines are left out and plans that are gone are told in :attr:`notes`.

        Raises:
            DamagedArtifactError: a line or a stored plan was changed after it was written.
        """
        lines, _ = self._lines()
        records, previous = [], ""
        for number, line in enumerate(lines, start=1):
            record = {key: value for key, value in line.items() if key != _CHAIN}
            if _link(previous, canonical_json(record)) != line[_CHAIN]:
                raise DamagedArtifactError(
                    f"{self.path}: record {number} or the one before it was changed or removed"
                )
            previous = line[_CHAIN]
            self._check_plan(record)
            records.append(record)
        return records

    def reconcile(self) -> list[Row]:
        """Predicted beside measured for every quantity of every stage that was run, in the order of running.

        Raises:
            DamagedArtifactError: see :meth:`read`.
        """
        rows: list[Row] = []
        for record in self.read():
            if record["type"] != "stage" or "predicted" not in record or "measured" not in record:
                continue
            try:
                predicted = Estimate.model_validate(record["predicted"])
                measured = Measurement.model_validate(record["measured"]).estimate
            except ValidationError:
                self.notes.append(
                    f"the figures of stage '{record.get('name')}' are of another version and left out"
                )
                continue
            rows += _rows(record, predicted, measured)
        return rows

    def _check_plan(self, record: dict[str, Any]) -> None:
        if record["type"] != "plan" or "file" not in record:
            return
        file = self.path.parent / record["file"]
        if not file.exists():
            self.notes.append(f"the stored plan {record['file']} is gone")
        elif sha256_file(file) != record["sha256"]:
            raise DamagedArtifactError(
                f"{file} was changed after the run began: its SHA-256 is not the ledger's"
            )

    def _lines(self) -> tuple[list[dict[str, Any]], bool]:
        """The lines that are whole, and whether the file ends in the middle of one."""
        self.notes = []
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                text = file.read()
        except FileNotFoundError:
            return [], False
        except OSError as error:
            raise ArrieroError(f"{self.path}: the ledger could not be read: {error.strerror}") from None
        lines = []
        for number, raw in enumerate(text.split(b"\n"), start=1):
            if not raw.strip():
                continue
            line = _parse(raw)
            if line is None:
                self.notes.append(
                    f"line {number} of {self.path.name} was cut short by a crash and is left out"
                )
            else:
                lines.append(line)
        return lines, bool(text) and not text.endswith(b"\n")


def _rows(record: dict[str, Any], predicted: Estimate, measured: Estimate) -> list[Row]:
    rows = []
    for name in Estimate.fields():
        ahead: Quantity = getattr(predicted, name)
        after: Quantity = getattr(measured, name)
        found = compare(ahead, after) if ahead.unit == after.unit else Comparison(None, None)
        rows.append(
            Row(record.get("at", ""), record["name"], record.get("kind", ""), name, ahead, after, found.error, found.inside)
        )  # fmt: skip
    return rows


def _append_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # goes with the handle; a reader could see the half of a long line
        if os.write(handle, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    finally:
        os.close(handle)


def _link(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "type" in line and _CHAIN in line else None
