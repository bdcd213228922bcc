"""The road as a picture: stages along a mountain path, with the caravan where the run has come to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from arriero.cost.units import format_seconds
from arriero.recipe.report.data import ReportData, StageLine

WIDTH = 1120
_MARGIN, _PITCH, _TOP, _BELOW = 92, 172, 122, 100
_GOLDEN, _RIDGE_STEPS = 0.6180339887, 224
_PER_ROW = 7
_RADIUS = 20.0
_RING = 2 * math.pi * _RADIUS
_MARKS = {"done": "✓", "failed": "!", "stopped": "‖", "waiting": ""}
_CARAVAN = (34.0, 66.0, 98.0)
"""How far the llamas stand before the last finished stage."""


@dataclass(frozen=True)
class Node:
    """A stage on the road. ``ring`` is the drawn length of its share of the time around the circle."""

    x: float
    y: float
    name: str
    kind: str
    state: str
    reused: bool
    mark: str
    made: str
    time: str
    share: str
    ring: float
    takes: str
    title: str


@dataclass(frozen=True)
class Road:
    """The picture in a box of ``width`` by ``height``; ``circumference`` belongs to the rings."""

    width: int
    height: int
    radius: float
    circumference: float
    nodes: list[Node]
    pieces: list[tuple[str, bool]]
    """SVG path data of each piece of road, and whether the caravan has walked it"""
    ranges: list[str]
    """points of the mountain ranges, the farthest first"""
    llamas: list[tuple[float, float, bool]]
    """(x, y of the feet, looks to the left)"""


def road(data: ReportData) -> Road:
    """Lay the stages out in rows of at most seven that turn like a mountain road."""
    stages = data.stages
    rows = max(1, math.ceil(len(stages) / _PER_ROW))
    per_row = math.ceil(len(stages) / rows) or 1
    height = _TOP + (rows - 1) * _PITCH + _BELOW
    places = [_place(i, per_row) for i in range(len(stages))]
    total = sum(_seconds(stage) or 0.0 for stage in stages)
    names = [stage.name for stage in stages]
    nodes = [
        _node(stage, x, y, total, names[i - 1] if i else None)
        for i, (stage, (x, y)) in enumerate(zip(stages, places, strict=True))
    ]
    pieces = [
        (
            _piece(places[i - 1], places[i], i % per_row == 0, (i // per_row) % 2 == 1),
            stages[i].state == "done",
        )
        for i in range(1, len(stages))
    ]
    last = max((i for i, stage in enumerate(stages) if stage.state == "done"), default=None)
    llamas = _caravan(places[last], (last // per_row) % 2 == 1) if last is not None else []
    return Road(WIDTH, height, _RADIUS, round(_RING, 2), nodes, pieces, _ranges(height), llamas)


def _place(index: int, per_row: int) -> tuple[float, float]:
    row, column = divmod(index, per_row)
    step = (WIDTH - 2 * _MARGIN) / max(1, per_row - 1)
    along = column if row % 2 == 0 else per_row - 1 - column
    x = _MARGIN + along * step if per_row > 1 else WIDTH / 2
    return round(x, 1), round(_TOP + row * _PITCH + 13 * math.sin(1.9 * index + 0.6), 1)


def _piece(start: tuple[float, float], end: tuple[float, float], turn: bool, right: bool) -> str:
    """A curve between two stages; at the end of a row it swings out to the side."""
    (x, y), (u, v) = start, end
    if turn:
        out = 74 if right else -74
        return f"M{x:g} {y:g}C{x + out:g} {y:g} {u + out:g} {v:g} {u:g} {v:g}"
    middle = (x + u) / 2
    return f"M{x:g} {y:g}C{middle:g} {y:g} {middle:g} {v:g} {u:g} {v:g}"


def _caravan(place: tuple[float, float], left: bool) -> list[tuple[float, float, bool]]:
    x, y = place
    back = 1 if left else -1
    feet = [(x + back * d, y - 25 + 3 * (i % 2), left) for i, d in enumerate(_CARAVAN)]
    return [llama for llama in feet if 20 < llama[0] < WIDTH - 20]


def _ranges(height: int) -> list[str]:
    """Two ranges over the whole width: mountains of many heights, of which the highest shows at each place."""
    found = []
    for seed, count, base, tall in ((0.21, 13, 118.0, 112.0), (0.64, 17, 132.0, 66.0)):
        peaks = [
            (
                (seed + i * _GOLDEN) % 1.0,
                0.45 + 0.55 * ((seed + i * i * _GOLDEN) % 1.0),
                0.06 + 0.07 * ((i * 0.37) % 1.0),
            )
            for i in range(count)
        ]
        points = []
        for step in range(_RIDGE_STEPS + 1):
            x = step / _RIDGE_STEPS
            ridge = max(
                max(0.0, top * (1 - abs(x - middle) / (top * wide * 2))) for middle, top, wide in peaks
            )
            points.append(f"{x * WIDTH:.0f},{base - tall * ridge:.1f}")
        found.append(f"0,{height} {' '.join(points)} {WIDTH},{height}")
    return found


def _seconds(stage: StageLine) -> float | None:
    return stage.measured.seconds.value if stage.measured is not None else None


def _node(stage: StageLine, x: float, y: float, total: float, before: str | None) -> Node:
    seconds = _seconds(stage)
    share = seconds / total if seconds is not None and total else None
    takes = list(dict.fromkeys(stage.inputs))
    far = takes and takes != [before]
    state = {"done": "reused" if stage.reused else "done"}.get(stage.state, stage.state)
    planned = stage.predicted.seconds.value if stage.predicted is not None else None
    time = format_seconds(seconds, 2) if seconds is not None else "unknown"
    if seconds is None and stage.state != "done":
        time = f"planned {format_seconds(planned, 2)}" if planned is not None else stage.state
    return Node(
        x, y, stage.name, stage.kind, stage.state, stage.reused, "↺" if stage.reused else _MARKS[stage.state],
        stage.made, time, _percent(share), round(_RING * (share or 0.0), 2),
        f"from {_and(takes)}" if far else "", f"{stage.name} ({stage.kind}): {state}; {stage.made or 'nothing yet'}",
    )  # fmt: skip


def _and(names: list[str]) -> str:
    return (
        names[0]
        if len(names) == 1
        else f"{', '.join(names[:-1])} and {names[-1]}"
        if len(names) < 4
        else f"{len(names)} stages"
    )


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"
