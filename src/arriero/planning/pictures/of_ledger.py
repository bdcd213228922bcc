"""Predicted and measured from the ledger's rows."""

from __future__ import annotations

from collections.abc import Iterable

from arriero.cost.ledger import Row
from arriero.planning.pictures.accuracy import Pair


def pairs_of(rows: Iterable[Row], *, with_day: bool = False) -> list[Pair]:
    """The rows of which both sides are known and the measured one was read off a meter.

    Args:
        with_day: names begin with the day of the run, for rows of several runs.
    """
    found = []
    for row in rows:
        ahead, after = row.predicted, row.measured
        if (
            ahead.value is None
            or after.value is None
            or ahead.unit != after.unit
            or after.basis != "measured"
        ):
            continue
        day = row.at[:10] if with_day else ""
        found.append(
            Pair(row.stage, row.quantity, ahead.unit, ahead.value, after.value, ahead.low, ahead.high, day)
        )
    return found
