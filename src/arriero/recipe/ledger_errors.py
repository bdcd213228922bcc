"""How predictions fared: signed error by quantity, by kind of stage and over time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from arriero.cost.ledger import Ledger, Row
from arriero.evaluation.text_plot import text_plot

_PARTS = 4
"""Stretches of equal numbers of runs that "over time" is cut into."""


@dataclass(frozen=True)
class ErrorLine:
    """The errors of a group of predictions.

    Attributes:
        bias: median of predicted / measured - 1: +0.2 says that 20 % too much is predicted as a rule.
        size: mean of its absolute value. inside: share of the measured values that lay in their band,
            None where no prediction had one.
        first, last: when the runs were.
    """

    quantity: str
    group: str
    runs: int
    bias: float
    size: float
    worst: float
    inside: float | None
    first: str
    last: str

    @classmethod
    def of(cls, quantity: str, group: str, rows: Sequence[Row]) -> ErrorLine:
        errors = [row.error for row in rows if row.error is not None]
        return cls(
            quantity, group, len(errors), statistics.median(errors), statistics.fmean(map(abs, errors)),
            max(errors, key=abs), _inside(rows),
            min(row.at for row in rows), max(row.at for row in rows),
        )  # fmt: skip


def _inside(rows: Sequence[Row]) -> float | None:
    banded = [bool(row.inside) for row in rows if row.predicted.low != row.predicted.high]
    return statistics.fmean(banded) if banded else None


def all_rows(ledgers: Iterable[Ledger]) -> tuple[list[Row], list[str]]:
    """Predicted beside measured where both are known and measured is no model itself, by time; and what was left out.

    Copies of a run folder hold the same records, which count once.

    Raises:
        DamagedArtifactError: a ledger or a stored plan was changed.
    """
    found: dict[tuple[str, str], Row] = {}
    notes: list[str] = []
    for ledger in ledgers:
        for row in ledger.reconcile():
            if row.error is not None and row.measured.basis == "measured":
                found[row.record, row.quantity] = row
        notes += ledger.notes
    return sorted(found.values(), key=lambda row: row.at), notes


def by_quantity(rows: Sequence[Row]) -> list[ErrorLine]:
    """One line for each quantity over all stages."""
    return [ErrorLine.of(name, "all stages", group) for name, group in _groups(rows, lambda row: "").items()]


def by_kind(rows: Sequence[Row]) -> list[ErrorLine]:
    """One line for each quantity of each kind of stage."""
    groups = _groups(rows, lambda row: row.kind)
    return [
        ErrorLine.of(name.partition("\n")[0], name.partition("\n")[2], group)
        for name, group in groups.items()
    ]


def over_time(rows: Sequence[Row], quantity: str = "seconds") -> list[ErrorLine]:
    """The runs in stretches of equal number, the earliest first."""
    mine = [row for row in rows if row.quantity == quantity]
    parts = min(_PARTS, len(mine))
    cuts = [round(i * len(mine) / parts) for i in range(parts + 1)] if parts else []
    return [
        ErrorLine.of(quantity, f"runs {low + 1} to {high}", mine[low:high]) for low, high in pairwise(cuts)
    ]


def _groups(rows: Sequence[Row], group: Callable[[Row], str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = group(row)
        found.setdefault(f"{row.quantity}\n{name}" if name else row.quantity, []).append(row)
    return dict(sorted(found.items()))


def error_plot(rows: Sequence[Row], quantity: str = "seconds") -> str:
    """Signed error against the number of the run; o inside its band, x outside; empty for fewer than three."""
    mine = [row for row in rows if row.quantity == quantity and row.error is not None]
    if len(mine) < 3:
        return ""
    points = [(float(number), 100 * (row.error or 0.0)) for number, row in enumerate(mine, start=1)]
    curves = {
        mark: [point for point, row in zip(points, mine, strict=True) if bool(row.inside) is held]
        for mark, held in (("o", True), ("x", False))
    }
    return text_plot(
        curves, x_text=lambda at: f"run {at:.0f}", y_text=lambda error: f"{error:+.0f} %", level=0.0, log_x=False
    )  # fmt: skip
