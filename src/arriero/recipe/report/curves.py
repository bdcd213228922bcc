"""Curves of the training stages, drawn as SVG that stretches while its text stays text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arriero.evaluation.scale import Scale, thinned
from arriero.recipe.report.data import ReportData, StageLine
from arriero.recipe.units import format_count

PAIRS = (
    ("loss", "heldout_loss", "loss"),
    ("preference_accuracy", "heldout_preference_accuracy", "pairs put in order"),
)
"""What is drawn: the training figure, the held-out one, and their title."""
_STEP_TICKS = 4
_LAST_TICK = 80.0
"""The axis's unit stands right of here."""
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A chart of one figure of one stage, in a box of 100 by 100."""

    stage: str
    title: str
    train: str
    """points of an SVG polyline"""
    heldout: str
    heldout_dots: list[tuple[float, float]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    caption: str


def curves(data: ReportData) -> list[Curve]:
    """Charts of every stage that logged a loss by step."""
    found = [_curve(stage, *names) for stage in data.stages if stage.metrics for names in PAIRS]
    return [curve for curve in found if curve is not None]


def series(metrics: Sequence[dict[str, Any]], name: str) -> Points:
    """(step, value) of every line that has the figure; what is no finite number is left out."""
    found = []
    for line in metrics:
        step, value = line.get("step"), line.get(name)
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value):
            found.append((float(step), float(value)))
    return found


def _curve(stage: StageLine, train_name: str, heldout_name: str, title: str) -> Curve | None:
    train, heldout = thinned(series(stage.metrics, train_name)), series(stage.metrics, heldout_name)
    if len(train) < 2:
        return None
    x = Scale(min(p[0] for p in [*train, *heldout]), max(p[0] for p in [*train, *heldout]))
    y = Scale.over([value for _, value in [*train, *heldout]])
    if y is None or x.high <= x.low:
        return None

    def place(points: Points) -> Points:
        return [(x.at(step), round(100 - y.at(value), 3)) for step, value in points]

    return Curve(
        stage=stage.name, title=title, train=_polyline(place(train)), heldout=_polyline(place(heldout)),
        heldout_dots=place(heldout),
        x_ticks=[(x.at(tick), format_count(tick)) for tick in x.ticks(_STEP_TICKS) if x.at(tick) <= _LAST_TICK],
        y_ticks=[(round(100 - y.at(tick), 3), f"{tick:g}") for tick in y.ticks(4)],
        caption=_caption(stage, train, heldout),
    )  # fmt: skip


def _polyline(points: Points) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _caption(stage: StageLine, train: Points, heldout: Points) -> str:
    parts = [f"ends at {train[-1][1]:.3f}"]
    if len(heldout) > 1:
        parts.append(f"held out {heldout[0][1]:.3f} → {heldout[-1][1]:.3f}")
    elif heldout:
        parts.append(f"held out {heldout[-1][1]:.3f}")
    speeds = sorted(value for _, value in series(stage.metrics, "tokens_per_s"))
    if speeds:
        parts.append(f"{speeds[len(speeds) // 2]:,.0f} tokens/s")
    return " · ".join(parts)
