"""What a run has done so far, in a form that a checkpoint holds; and the metrics file of a resumed run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from arriero.training.health.outliers import History

CURVE_POINTS = 64
MOST_EVENTS = 100
METRICS_FILE = "metrics.jsonl"


@dataclass
class Window:
    """Sums since the last line of the log, for its means."""

    weight: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0
    waited: float = 0.0

    def add(self, weight: float, sums: dict[str, float], tokens: int, seconds: float) -> None:
        self.weight += weight
        self.tokens += tokens
        self.seconds += seconds
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        return {name: value / self.weight for name, value in self.sums.items()} if self.weight else {}


@dataclass
class Totals:
    """Position and totals of a run, over all its resumes.

    Attributes:
        step: optimizer steps done.
        samples: samples seen, which is the position in the data order.
        tokens: tokens seen, padding not counted.
        train_flops: arithmetic of the training steps.
        flops: arithmetic of training steps and held-out evaluations.
        train_seconds: wall seconds inside training steps.
        cpu_seconds: processor seconds inside training steps, of all threads.
        seconds: wall seconds of the whole loop, with evaluations and checkpoints.
        waited: wall seconds that steps waited for their samples.
        evaluations: each held-out evaluation: {"step", "tokens", "cpu_seconds", "train_seconds", "loss", ...}.
        tasks: figures of tasks scored with them: {"step", ...}.
        curve: (sum of losses, weight) of each of up to 64 equal stretches of the run.
        passed_over: samples left out since a spike: the data order is that far ahead of ``samples``.
        history: what the outlier rule remembers.
        events: steps that were not taken, spikes and corruption: {"step", "event", "why"}, the last 100.
    """

    step: int = 0
    samples: int = 0
    tokens: int = 0
    train_flops: float = 0.0
    flops: float = 0.0
    train_seconds: float = 0.0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    evaluations: list[dict[str, float]] = field(default_factory=list)
    tasks: list[dict[str, float]] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    window: Window = field(default_factory=Window)
    passed_over: int = 0
    history: History = field(default_factory=History)
    events: list[dict[str, Any]] = field(default_factory=list)

    def add_to_curve(self, index: int, loss_sum: float, weight: float) -> None:
        """Count a step in the stretch with this number."""
        self.curve += [[0.0, 0.0] for _ in range(index + 1 - len(self.curve))]
        self.curve[index][0] += loss_sum
        self.curve[index][1] += weight

    def add_event(self, event: str, why: str) -> None:
        """Note what happened in the step after the last one."""
        self.events = [*self.events, {"step": self.step + 1, "event": event, "why": why}][-MOST_EVENTS:]

    def curve_means(self) -> list[float]:
        """Mean loss of each stretch."""
        return [loss / weight for loss, weight in self.curve if weight]

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, value: dict[str, Any]) -> Totals:
        parts = {"window": Window(**value["window"]), "history": History(**value["history"])}
        return cls(**{**value, **parts})


def rewind_metrics(state: Path, step: int) -> None:
    """Cut ``metrics.jsonl`` after the lines of ``step``: what comes later is about to be done again.

    Cut in place, because the run's context holds the file open for appending.
    """
    path = state / METRICS_FILE
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                break  # cut short by a kill
            if record.get("step", 0) > step:
                break
            end += len(line)
    with path.open("r+b") as file:
        file.truncate(end)
