"""The ledger: what was predicted and what it took, one JSON line each, only ever appended.

Every line carries a hash over itself and the line before (``chain``), a plan's line the SHA-256 of the stored plan
file, and a small file beside the ledger the number of lines and the last hash: a prediction that was edited, a line that
was taken out and an end that was cut off do not pass unnoticed.
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

from arriero.artifacts.commit import write_json_atomic
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
    record: str = ""
    """The ledger record's hash: copies of a run folder hold the same ones."""
    disturbed: bool = False
    """The wall time is not the stage's own (see :class:`arriero.cost.meter.Measurement`)."""


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
        self.chains: list[str] = []
        """The hash of each record that the last :meth:`read` gave: no two records anywhere have the same."""

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
        try:
            self._append(record, text)
        except OSError as error:
            raise ArrieroError(f"{self.path}: the ledger could not be written: {error.strerror}") from None

    def _append(self, record: dict[str, Any], text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(
                handle, fcntl.LOCK_EX
            )  # goes with the handle; nobody else links to the same last line
            before = os.pread(handle, os.fstat(handle).st_size, 0)
            lines, _ = _whole(before, self.path.name)
            self._check_end(lines)
            previous = lines[-1][_CHAIN] if lines else ""
            chain = _link(previous, text)
            line = json.dumps({**record, _CHAIN: chain}, ensure_ascii=False) + "\n"
            torn = before and not before.endswith(b"\n")
            data = (("\n" if torn else "") + line).encode()
            if os.write(handle, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
            write_json_atomic(self.head, {"lines": len(lines) + 1, _CHAIN: chain})
        finally:
            os.close(handle)

    @property
    def head(self) -> Path:
        """The file that holds how far the ledger goes; written after each line."""
        return self.path.with_name(f".{self.path.name}.head")

    def read(self) -> list[dict[str, Any]]:
        """All records in order. Torn lines are left out and plans that are gone are told in :attr:`notes`.

        Raises:
            DamagedArtifactError: a line or a stored plan was changed after it was written.
        """
        lines, head = self._stored()
        records, previous = [], ""
        predictions: dict[str, Any] = {}
        self.chains = []
        for number, line in enumerate(lines, start=1):
            record = {key: value for key, value in line.items() if key != _CHAIN}
            if _link(previous, canonical_json(record)) != line[_CHAIN]:
                raise DamagedArtifactError(
                    f"{self.path}: record {number} or the one before it was changed or removed"
                )
            previous = line[_CHAIN]
            self.chains.append(previous)
            self._check_head(head, number, previous)
            self._check_plan(record)
            self._check_prediction(record, predictions, number)
            records.append(record)
        self._check_end(lines, head)
        return records

    def reconcile(self) -> list[Row]:
        """Predicted beside measured for every quantity of every stage that was run, in the order of running.

        Raises:
            DamagedArtifactError: see :meth:`read`.
        """
        rows: list[Row] = []
        for record, chain in zip(self.read(), self.chains, strict=True):
            if record["type"] != "stage" or "predicted" not in record or "measured" not in record:
                continue
            try:
                predicted = Estimate.model_validate(record["predicted"])
                measured = Measurement.model_validate(record["measured"])
            except ValidationError:
                self.notes.append(
                    f"the figures of stage '{record.get('name')}' are of another version and left out"
                )
                continue
            rows += _rows(record, chain, predicted, measured)
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

    def _check_head(self, head: dict[str, Any] | None, number: int, chain: str) -> None:
        if head is not None and head["lines"] == number and head[_CHAIN] != chain:
            raise DamagedArtifactError(f"{self.path}: its records are not those that were written here")

    def _check_end(self, lines: list[dict[str, Any]], head: dict[str, Any] | None = None) -> None:
        """Refuse to read, or to write on, a ledger whose last lines are gone."""
        head = head or (self._head() if self.head.exists() else None)
        if head is not None and head["lines"] > len(lines):
            raise DamagedArtifactError(
                f"{self.path}: it was cut short, {len(lines)} of {head['lines']} records are left; put them back, "
                f"or move it and {self.head.name} away to begin a new one"
            )

    def _check_prediction(self, record: dict[str, Any], planned: dict[str, Any], number: int) -> None:
        """A stage's prediction is the one that its plan held before it ran."""
        if record["type"] == "plan":
            planned.clear()
            planned.update(record.get("stages") or {})
        elif record["type"] == "stage" and "predicted" in record:
            before = planned.get(record.get("name", ""))
            if before is not None and before != record["predicted"]:
                raise DamagedArtifactError(
                    f"{self.path}: record {number}: the prediction of stage '{record['name']}' is not its plan's"
                )

    def _stored(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """The lines that are whole, and what the head says of them."""
        self.notes = []
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                lines, self.notes = _whole(file.read(), self.path.name)
                return lines, self._head() if lines or self.head.exists() else None
        except FileNotFoundError:
            if self.path.exists():  # begun just now
                return self._stored()
            self._check_end([])
            return [], None
        except OSError as error:
            raise ArrieroError(f"{self.path}: the ledger could not be read: {error.strerror}") from None

    def _head(self) -> dict[str, Any] | None:
        """None for a ledger of an earlier version, whose end nothing vouches for."""
        try:
            head = json.loads(self.head.read_bytes())
            return {"lines": int(head["lines"]), _CHAIN: str(head[_CHAIN])}
        except FileNotFoundError:
            self.notes.append(f"{self.head.name} is not there: an end that was cut off would not be seen")
            return None
        except (ValueError, KeyError, TypeError):
            raise DamagedArtifactError(f"{self.head}: it was changed") from None


def _whole(text: bytes, name: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines that are whole, and a note on each that is not."""
    lines, notes = [], []
    for number, raw in enumerate(text.split(b"\n"), start=1):
        if not raw.strip():
            continue
        line = _parse(raw)
        if line is None:
            notes.append(f"line {number} of {name} was cut short by a crash and is left out")
        else:
            lines.append(line)
    return lines, notes


def _rows(record: dict[str, Any], chain: str, predicted: Estimate, measured: Measurement) -> list[Row]:
    rows = []
    for name in Estimate.fields():
        ahead: Quantity = getattr(predicted, name)
        after: Quantity = getattr(measured.estimate, name)
        found = compare(ahead, after) if ahead.unit == after.unit else Comparison(None, None)
        rows.append(
            Row(
                record.get("at", ""), record["name"], record.get("kind", ""), name, ahead, after, found.error, found.inside,
                chain, measured.disturbed,
            )
        )  # fmt: skip
    return rows


def _link(previous: str, text: str) -> str:
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "type" in line and _CHAIN in line else None
