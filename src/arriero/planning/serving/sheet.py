"""`arriero estimate --serve`: what a model gives its readers on a device, and what a million tokens cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape

from arriero.cost.quantity import Quantity
from arriero.cost.units import UNKNOWN, format_count, format_seconds
from arriero.planning.counts.subject import Held
from arriero.planning.estimate.figures import bar
from arriero.planning.estimate.sheet import (
    Fit,
    LeftOut,
    answer_rows,
    closing_lines,
    grid,
    head_data,
    memory_rows,
    print_blocks,
    setting_line,
)


@dataclass(frozen=True)
class ServingQuestion:
    """A model that answers; None leaves a thing to Arriero.

    Attributes:
        context: tokens of a prompt with its answer. answer: of these, the answer. batch: answers at a time, of a copy.
        weights: how they are held. speed: tokens a second that a reader must get. count: devices.
    """

    model: str
    hardware: str | None = None
    count: int = 1
    parallel: str | None = None
    precision: str | None = None
    context: float | None = None
    batch: int = 1
    answer: float = 256
    weights: Held | None = None
    speed: float = 10.0
    tariffs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ServingSheet:
    """What a model gives its readers.

    Attributes:
        answer: time to the first token, tokens a second of one answer and of all, money of a million tokens in and out.
        fit: memory of a device with the batch. users: (words, number or None) of how many answers go at once.
        bounds: seconds that reading weights, reading kept values, and arithmetic would each take of a step.
        kv_token: bytes of one token's keys and values. crossover: answers at once at which arithmetic takes over.
    """

    model: str
    question: str
    settings: tuple[tuple[str, str], ...]
    answer: dict[str, Quantity]
    tier: str
    fit: Fit
    users: tuple[tuple[str, int | None], ...]
    step_seconds: float
    bounds: dict[str, float]
    kv_token: float
    kv_stream: float
    crossover: float
    left_out: tuple[LeftOut, ...] = ()
    doubts: tuple[str, ...] = ()
    next_action: str = ""
    sharper: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def bound(self) -> str | None:
        """What takes most of a step; None where that is unknown."""
        known = {name: value for name, value in self.bounds.items() if value == value}
        return max(known, key=lambda name: known[name]) if len(known) == len(self.bounds) else None

    def to_json(self) -> dict[str, Any]:
        """Every figure with value, low, high, unit, basis and source; bytes and seconds."""
        return {
            **head_data("arriero.serving/1", self),
            "users": dict(self.users),
            "kv_bytes_per_token": self.kv_token,
            "kv_bytes_per_stream": self.kv_stream,
            "bound": self.bound,
            "bound_seconds": {name: _plain(value) for name, value in self.bounds.items()},
            "step_seconds": _plain(self.step_seconds),
            "crossover_batch": _plain(self.crossover),
            "left_out": [{"name": line.name, "text": line.text} for line in self.left_out],
            "doubts": list(self.doubts),
            "next_action": self.next_action,
            "sharper": self.sharper,
        }

    def print(self, console: Console) -> None:
        """One screen: what a reader gets, what it costs, memory, what bounds it."""
        head = (
            f"[bold]{escape(self.model)}[/]: {escape(self.question)}\n{escape(setting_line(self.settings))}"
        )
        closing = closing_lines(self.left_out, self.doubts, (), self.next_action, self.sharper)
        blocks = [head, answer_rows(self.answer, self.notes, self.tier, self.fit), _users(self), memory_rows(self.fit), _bounds(self), closing]  # fmt: skip
        print_blocks(blocks, console)


def _plain(value: float) -> float | None:
    """JSON has neither NaN nor infinity."""
    return value if value == value and abs(value) != float("inf") else None


def _users(sheet: ServingSheet) -> RenderableType:
    rows = [(f"  {words}", UNKNOWN if number is None else f"{number:,}") for words, number in sheet.users]
    return Group("[bold]Answers at once[/]", grid(rows))


def _bounds(sheet: ServingSheet) -> RenderableType:
    bound = sheet.bound
    if bound is None:
        return f"[bold]Bound[/]: {UNKNOWN}"
    most = max(sheet.bounds.values())
    title = (
        f"[bold]A step of {format_seconds(sheet.step_seconds)} is bound by {bound}[/]; each alone would take"
    )
    rows = [(f"  {name}", format_seconds(value), bar(value / most)) for name, value in sheet.bounds.items()]
    from_there = f"  arithmetic overtakes the reading of weights at {format_count(round(sheet.crossover))} answers at once"
    return Group(title, grid(rows), from_there)
