"""Runs to fit a law to: parameters, tokens and the loss they came to, from a table in a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arriero.cost.scaling.law import TRAINING_FLOPS, Floats
from arriero.errors import ArrieroError

_NAMES = {
    "parameters": ("parameters", "params", "n", "n_parameters", "model size", "model_size"),
    "tokens": ("tokens", "d", "training tokens", "training_tokens"),
    "flops": ("flops", "c", "flop", "training flop", "training_flop", "compute"),
    "loss": ("loss", "l", "final loss", "nll"),
    "accuracy": ("accuracy", "acc", "score"),
    "name": ("name", "run", "model"),
}
"""What a column may be called, in any case."""


@dataclass(frozen=True)
class Runs:
    """Finished training runs, each with its learning rate taken to its end.

    Attributes:
        parameters, tokens, losses: [n], losses in nats a token of held-out text. names: [n], for messages.
    """

    parameters: Floats
    tokens: Floats
    losses: Floats
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = {len(self.parameters), len(self.tokens), len(self.losses)}
        if len(sizes) != 1:
            raise ArrieroError(f"runs need as many sizes as token counts and losses, not {sorted(sizes)}")
        for what, values in (
            ("parameters", self.parameters), ("tokens", self.tokens), ("loss", self.losses),
        ):  # fmt: skip
            wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if wrong.size:
                raise ArrieroError(
                    f"{self.label(int(wrong[0]))}: {what} should be above 0, not {values[wrong[0]]:g}"
                )

    def __len__(self) -> int:
        return len(self.losses)

    @classmethod
    def of(cls, rows: Sequence[tuple[float, float, float]], names: Sequence[str] = ()) -> Runs:
        """From (parameters, tokens, loss) of each."""
        table = np.asarray(rows, dtype=float).reshape(len(rows), 3)
        return cls(table[:, 0], table[:, 1], table[:, 2], tuple(names))

    @property
    def flops(self) -> Floats:
        """6 N D of each [n]."""
        return np.asarray(TRAINING_FLOPS * self.parameters * self.tokens)

    def label(self, number: int) -> str:
        """What a message calls the run."""
        return f"run '{self.names[number]}'" if self.names else f"run {number + 1}"

    def only(self, chosen: Any) -> Runs:
        """The runs of these numbers (or a mask)."""
        names = tuple(np.asarray(self.names, dtype=object)[chosen]) if self.names else ()
        return Runs(self.parameters[chosen], self.tokens[chosen], self.losses[chosen], names)


def read_runs(path: Path) -> Runs:
    """From a CSV file with columns for parameters, tokens (or FLOP: D = C / 6 N) and loss; others are left alone.

    Raises:
        ArrieroError: the file cannot be read, a column is missing, or a figure is none.
    """
    rows = read_rows(path)
    there = rows[0] if rows else {}
    if rows and "tokens" not in there and "flops" not in there:
        raise ArrieroError(f"{path}: no column 'tokens' (or 'flops'); there are {', '.join(there)}")
    found, names = [], []
    for line, row in enumerate(rows, start=2):
        n, loss = figure(row, "parameters", path, line), figure(row, "loss", path, line)
        tokens = (
            figure(row, "tokens", path, line) if "tokens" in there
            else figure(row, "flops", path, line) / TRAINING_FLOPS / n
        )  # fmt: skip
        found.append((n, tokens, loss))
        names.append(row.get("name") or f"line {line}")
    return Runs.of(found, names)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, columns under the names that this module knows them by.

    Raises:
        ArrieroError: the file cannot be read, has no rows, or two columns mean the same.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArrieroError(f"{path}: the runs could not be read: {error}") from None
    rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
    if not rows:
        raise ArrieroError(
            f"{path}: no runs; wanted is a header like 'parameters,tokens,loss' and a line for each"
        )
    known = {alias: name for name, aliases in _NAMES.items() for alias in aliases}
    columns: dict[str, str] = {}
    for column in rows[0]:
        name = known.get((column or "").strip().lower())
        if name is None:
            continue
        if name in columns:
            raise ArrieroError(f"{path}: columns '{columns[name]}' and '{column}' both mean {name}")
        columns[name] = column
    return [{name: (row[column] or "").strip() for name, column in columns.items()} for row in rows]


def figure(row: Mapping[str, str], name: str, path: Path, line: int) -> float:
    """A positive figure of a row.

    Raises:
        ArrieroError: there is no such column, or no positive number in it.
    """
    if name not in row:
        raise ArrieroError(
            f"{path}: no column '{name}' (known names: {', '.join(_NAMES[name])}); there are {', '.join(row)}"
        )
    try:
        value = float(row[name])
    except ValueError:
        raise ArrieroError(f"{path}:{line}: {name} should be a number, not '{row[name]}'") from None
    if not (math.isfinite(value) and value > 0):
        raise ArrieroError(f"{path}:{line}: {name} should be above 0, not {row[name]}")
    return value
