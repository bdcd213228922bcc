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

from arriero.training.batch_sizes import BatchSizes, Course, course_of, first_size, grown
from arriero.training.duration import Duration, Warmup
from arriero.training.metrics import CURVE_POINTS, Totals
from arriero.training.objectives.base import Objective
from arriero.training.schedule import learning_rate, learning_rate_within, warmup_steps
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
    def next_position(self, totals: Totals) -> int:
        """Position in the order of samples after the coming step."""

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
        step, settings, done = totals.step, self.settings, totals.evaluations or totals.tasks
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

    def __init__(self, settings: TrainSettings, course: Course, tokens_per_sample: float) -> None:
        super().__init__(settings)
        self.steps, self.samples, self.sizes = course.steps, course.samples, course.sizes
        self.warmup = warmup_steps(
            settings, course.steps, lambda tokens: self.sizes.steps(tokens / tokens_per_sample)
        )

    def share(self, record: Mapping[str, Any]) -> float:
        return float(record["step"] / self.steps)

    def learning_rate(self, totals: Totals) -> float:
        return learning_rate(self.settings, totals.step, self.steps, self.warmup)

    def next_position(self, totals: Totals) -> int:
        return min(totals.samples + self.sizes.size(totals.samples), self.samples)

    def curve_index(self, totals: Totals) -> int:
        return totals.step * min(CURVE_POINTS, self.steps) // self.steps

    def progress(self, totals: Totals) -> Progress:
        return totals.step, self.steps, "steps"

    def identity(self) -> list[Any]:
        return [self.steps, self.samples]


class Timed(Budget):
    """Seconds of the training steps: of the processor, all its cores together, or of the clock."""

    def __init__(self, settings: TrainSettings, duration: Duration, objective: Objective) -> None:
        super().__init__(settings)
        self.limit = duration.amount
        self.measure = "cpu_seconds" if duration.unit == "cpu-seconds" else "train_seconds"
        self.unit = "CPU seconds" if duration.unit == "cpu-seconds" else "seconds"
        self.objective = objective
        self.growth = Warmup.parse(settings.batch_warmup)

    def share(self, record: Mapping[str, Any]) -> float:
        return float(record[self.measure] / self.limit)

    def learning_rate(self, totals: Totals) -> float:
        used, tokens, steps = self.share(vars(totals)), float(totals.tokens), max(1, totals.step)
        coming = used / steps  # as much as the steps before on the average
        if Warmup.parse(self.settings.warmup).unit == "tokens":
            tokens += (
                tokens / steps if totals.step else self._size(totals) * self.objective.tokens_per_sample()
            )
        return learning_rate_within(self.settings, totals.step, min(1.0, used + coming), tokens)

    def next_position(self, totals: Totals) -> int:
        return totals.samples + self._size(totals)

    def _size(self, totals: Totals) -> int:
        """Samples of the coming step."""
        settings = self.settings
        if not self.growth.amount:
            return settings.batch_size
        if self.growth.unit == "%":
            done = self.share(vars(totals)) / self.growth.share
            return grown(first_size(settings), settings.batch_size, done)
        ramp = self.growth.amount / self.objective.tokens_per_sample()
        return BatchSizes(first_size(settings), settings.batch_size, ramp).size(totals.samples)

    def curve_index(self, totals: Totals) -> int:
        return min(CURVE_POINTS - 1, int(self.share(vars(totals)) * CURVE_POINTS))

    def progress(self, totals: Totals) -> Progress:
        return min(self.limit, float(getattr(totals, self.measure))), self.limit, self.unit

    def identity(self) -> list[Any]:
        return [self.measure, self.limit]


def run_course(settings: TrainSettings, objective: Objective) -> Course:
    """Steps, samples and batch sizes that the settings' duration comes to.

    Raises:
        ValueError: the duration is in seconds.
    """
    return course_of(settings, len(objective), objective.tokens_per_sample())


def run_length(settings: TrainSettings, objective: Objective) -> tuple[int, int]:
    """(optimizer steps, samples) that the settings' duration comes to.

    Raises:
        ValueError: the duration is in seconds.
    """
    course = run_course(settings, objective)
    return course.steps, course.samples


def budget_of(settings: TrainSettings, objective: Objective) -> Budget:
    """The budget that the settings' duration stands for."""
    duration = Duration.parse(settings.duration)
    if duration.timed:
        return Timed(settings, duration, objective)
    return Counted(settings, run_course(settings, objective), objective.tokens_per_sample())
