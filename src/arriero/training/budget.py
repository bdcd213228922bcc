"""How long a run goes on, how much of that is used, and what follows: learning rate, evaluations, progress.

A budget of tokens, epochs or steps is a number of steps, so a run and its resumes end with the same bits anywhere.
A budget of seconds is used up by what the training steps really take (evaluations, checkpoints and reading the
inputs are free): a faster machine does more steps, so two runs differ. What is used is kept in the checkpoint; a run
that is killed goes on with the rest, and the steps that it repeats cost what they cost this time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from arriero.training.duration import Duration
from arriero.training.metrics import CURVE_POINTS, Totals
from arriero.training.objectives.base import Objective
from arriero.training.schedule import learning_rate, learning_rate_within
from arriero.training.settings import TrainSettings

Progress = tuple[float, float, str]
"""(done, of, unit)."""


class Budget(ABC):
    """What ends a run."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings

    @abstractmethod
    def share(self, record: Mapping[str, Any]) -> float:
        """Share used, 0 to 1, at a moment with these ``step``, ``cpu_seconds`` and ``train_seconds``."""

    @abstractmethod
    def learning_rate(self, totals: Totals) -> float:
        """Learning rate of the coming step."""

    @abstractmethod
    def next_position(self, samples: int) -> int:
        """Position in the order of samples after the step that starts at ``samples``."""

    @abstractmethod
    def curve_index(self, totals: Totals) -> int:
        """Stretch of the loss curve that the coming step belongs to."""

    @abstractmethod
    def progress(self, totals: Totals) -> Progress:
        """How far the run is."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """What a checkpoint must agree with, beside the settings."""

    def finished(self, totals: Totals) -> bool:
        """True when nothing is left."""
        return self.share(vars(totals)) >= 1

    def evaluation_due(self, totals: Totals) -> bool:
        """Before the first step, after the last, and between them as the settings say; never twice at one step."""
        step, settings, done = totals.step, self.settings, totals.evaluations
        if done and done[-1]["step"] == step:
            return False
        if step == 0 or self.finished(totals) or (settings.eval_every and step % settings.eval_every == 0):
            return True
        if not settings.eval_points or not done:
            return False
        before, now = self.share(done[-1]), self.share(vars(totals))
        return math.floor(now * settings.eval_points) > math.floor(before * settings.eval_points)


class Counted(Budget):
    """A number of steps, and of samples: the last step may be a smaller one."""

    def __init__(self, settings: TrainSettings, steps: int, samples: int) -> None:
        super().__init__(settings)
        self.steps, self.samples = steps, samples

    def share(self, record: Mapping[str, Any]) -> float:
        return float(record["step"] / self.steps)

    def learning_rate(self, totals: Totals) -> float:
        return learning_rate(self.settings, totals.step, self.steps)

    def next_position(self, samples: int) -> int:
        return min(samples + self.settings.batch_size, self.samples)

    def curve_index(self, totals: Totals) -> int:
        return totals.step * min(CURVE_POINTS, self.steps) // self.steps

    def progress(self, totals: Totals) -> Progress:
        return totals.step, self.steps, "steps"

    def identity(self) -> list[Any]:
        return [self.steps, self.samples]


class Timed(Budget):
    """Seconds of the training steps: of the processor, all its cores together, or of the clock."""

    def __init__(self, settings: TrainSettings, duration: Duration) -> None:
        super().__init__(settings)
        self.limit = duration.amount
        self.measure = "cpu_seconds" if duration.unit == "cpu-seconds" else "train_seconds"
        self.unit = "CPU seconds" if duration.unit == "cpu-seconds" else "seconds"

    def share(self, record: Mapping[str, Any]) -> float:
        return float(record[self.measure] / self.limit)

    def learning_rate(self, totals: Totals) -> float:
        used = self.share(vars(totals))
        coming = used / totals.step if totals.step else 0.0  # as much as the steps before on the average
        return learning_rate_within(self.settings, totals.step, min(1.0, used + coming))

    def next_position(self, samples: int) -> int:
        return samples + self.settings.batch_size

    def curve_index(self, totals: Totals) -> int:
        return min(CURVE_POINTS - 1, int(self.share(vars(totals)) * CURVE_POINTS))

    def progress(self, totals: Totals) -> Progress:
        return min(self.limit, float(getattr(totals, self.measure))), self.limit, self.unit

    def identity(self) -> list[Any]:
        return [self.measure, self.limit]


def run_length(settings: TrainSettings, objective: Objective) -> tuple[int, int]:
    """(optimizer steps, samples) that the settings' duration comes to.

    Raises:
        ValueError: the duration is in seconds.
    """
    samples = Duration.parse(settings.duration).samples(
        len(objective), objective.tokens_per_sample(), settings.batch_size
    )
    return math.ceil(samples / settings.batch_size), samples


def budget_of(settings: TrainSettings, objective: Objective) -> Budget:
    """The budget that the settings' duration stands for."""
    duration = Duration.parse(settings.duration)
    return (
        Timed(settings, duration) if duration.timed else Counted(settings, *run_length(settings, objective))
    )
