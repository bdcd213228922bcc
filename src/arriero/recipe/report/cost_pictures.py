"""The run's cost in pictures: where its time went, how much memory its stages took, and how the plan fared."""

from __future__ import annotations

from arriero.cost import Quantity
from arriero.cost.units import format_quantity
from arriero.planning.pictures import (
    Pair,
    Picture,
    RankMemory,
    Term,
    accuracy_picture,
    memory_picture,
    waterfall_picture,
)
from arriero.recipe.report.costs import QUANTITIES
from arriero.recipe.report.data import ReportData, StageLine

_MOST = 11
"""Stages that get a bar of their own; the shortest of more are put together."""


def cost_pictures(data: ReportData) -> list[Picture]:
    """The pictures that the run has figures for."""
    stages = [stage for stage in data.stages if stage.measured is not None]
    if not any(_value(stage, "seconds") for stage in stages):
        return []
    found = [_time(stages)]
    if any(_value(stage, "peak_memory") for stage in stages):
        found.append(_memory(stages, data.host.get("memory_bytes")))
    pairs = [pair for stage in stages for pair in _pairs(stage)]
    return [*found, accuracy_picture(pairs, name="run-accuracy")] if pairs else found


def _value(stage: StageLine, name: str) -> float | None:
    quantity: Quantity | None = getattr(stage.measured, name, None)
    return quantity.value if quantity is not None else None


def _time(stages: list[StageLine]) -> Picture:
    terms = [Term(stage.name, seconds) for stage in stages if (seconds := _value(stage, "seconds"))]
    if len(terms) > _MOST:
        longest = set(sorted(range(len(terms)), key=lambda i: -terms[i].seconds)[: _MOST - 1])
        rest = [term.seconds for i, term in enumerate(terms) if i not in longest]
        terms = [
            *(term for i, term in enumerate(terms) if i in longest),
            Term(f"{len(rest)} others", sum(rest)),
        ]
    total = Term("the run", sum(term.seconds for term in terms))
    return waterfall_picture(terms, total=total, title="Where the time of the run went", name="run-time")


def _memory(stages: list[StageLine], capacity: object) -> Picture:
    """Measured peaks; hatched above them what the plan had kept room for."""
    ranks = []
    for stage in stages:
        peak = _value(stage, "peak_memory")
        if peak:
            planned = stage.predicted.peak_memory.high if stage.predicted is not None else None
            ranks.append(RankMemory(stage.name, {"resident": peak}, max(0.0, (planned or 0.0) - peak)))
    return memory_picture(
        ranks, float(capacity) if isinstance(capacity, int | float) else None, title="Peak memory of the stages",
        name="run-memory", words=format_quantity, whose="stages", margin="planned above that",
    )  # fmt: skip


def _pairs(stage: StageLine) -> list[Pair]:
    found = []
    for name in QUANTITIES:
        ahead: Quantity | None = getattr(stage.predicted, name, None)
        after: Quantity | None = getattr(stage.measured, name, None)
        if ahead is None or after is None or ahead.value is None or after.value is None:
            continue
        if after.basis == "measured" and ahead.unit == after.unit:
            found.append(Pair(stage.name, name, ahead.unit, ahead.value, after.value, ahead.low, ahead.high))
    return found
