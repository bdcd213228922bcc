"""How many samples each optimizer step takes: a batch size that may grow over the first part of the run.

Small batches early on make more of each sample, large ones later waste none of the machine (Brown et al., arXiv
2005.14165, section 2.3, grew GPT-3's from 32k tokens linearly over the first 4-12 billion). The size depends on the
position in the order of samples alone, so that one number is still all there is to resume from.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property

from arriero.training.duration import Duration, Warmup
from arriero.training.settings import TrainSettings

_FIRST_SHARE = 8
"""Where the settings leave the first batch size open, it is the last one over this."""


def grown(first: int, full: int, done: float) -> int:
    """The batch size when ``done`` (0 to 1) of the growth is behind: whole multiples of ``first``, at last ``full``."""
    if done >= 1:
        return full
    return min(full, first * math.floor(1 + (full / first - 1) * max(0.0, done)))


@dataclass(frozen=True)
class BatchSizes:
    """Sizes by position.

    Attributes:
        first, full: of the first step, and from ``ramp`` samples on.
    """

    first: int
    full: int
    ramp: float = 0.0

    def size(self, position: int) -> int:
        """Samples of the step that starts at this position."""
        return grown(self.first, self.full, position / self.ramp if self.ramp > 0 else 1.0)

    def position(self, steps: int) -> int:
        """Position after so many steps."""
        stretch = self._stretches[bisect_right(self._stretches, steps, key=lambda s: s.step) - 1]
        return stretch.position + (steps - stretch.step) * stretch.size

    def steps(self, samples: float) -> int:
        """The least number of steps that take so many samples."""
        stretch = self._stretches[bisect_left(self._stretches, samples, lo=1, key=lambda s: s.position) - 1]
        return stretch.step + max(0, math.ceil((samples - stretch.position) / stretch.size))

    @cached_property
    def _stretches(self) -> list[_Stretch]:
        """Steps of one size, stretch after stretch; the last one, of full steps, has no end."""
        found = [_Stretch(0, 0, self.size(0))]
        while found[-1].size < self.full:
            last = found[-1]
            steps = self._steps_of_size(last.position, last.size)
            position = last.position + steps * last.size
            found.append(_Stretch(last.step + steps, position, self.size(position)))
        return found

    def _steps_of_size(self, position: int, size: int) -> int:
        """Steps from ``position`` on that have this size."""
        ends = self.ramp * (size / self.first) / (self.full / self.first - 1)
        steps = max(1, math.ceil((min(ends, self.ramp) - position) / size) - 2)
        while self.size(position + steps * size) == size:
            steps += 1
        return steps


@dataclass(frozen=True)
class _Stretch:
    step: int
    position: int
    size: int


@dataclass(frozen=True)
class Course:
    """A run that is counted: its steps, its samples, and how these fall to those."""

    steps: int
    samples: int
    sizes: BatchSizes


def first_size(settings: TrainSettings) -> int:
    """Samples of the first step of a growing batch."""
    return settings.batch_size_start or max(1, settings.batch_size // _FIRST_SHARE)


def course_of(settings: TrainSettings, n_samples: int, tokens_per_sample: float) -> Course:
    """Steps and samples that the settings' duration comes to. Tokens and steps fill whole batches, but the last step
    of an epoch may be a smaller one.

    Raises:
        ValueError: the duration is in seconds.
    """
    duration, full = Duration.parse(settings.duration), settings.batch_size
    warmup = Warmup.parse(settings.batch_warmup)
    samples = duration.samples(n_samples, tokens_per_sample, full)
    if not warmup.amount:
        return Course(math.ceil(samples / full), samples, BatchSizes(full, full))
    first = first_size(settings)
    if duration.unit == "steps":
        sizes = BatchSizes(
            first, full, _ramp_of_steps(warmup, first, full, int(duration.amount), tokens_per_sample)
        )
        return Course(int(duration.amount), sizes.position(int(duration.amount)), sizes)
    ramp = warmup.share * samples if warmup.share else warmup.amount / tokens_per_sample
    sizes = BatchSizes(first, full, ramp)
    if duration.unit == "epochs":
        return Course(sizes.steps(samples), samples, sizes)
    steps = sizes.steps(math.ceil(duration.amount / tokens_per_sample))
    return Course(steps, sizes.position(steps), sizes)


def _ramp_of_steps(warmup: Warmup, first: int, full: int, steps: int, tokens_per_sample: float) -> float:
    """Samples over which the size grows in a run of so many steps.

    A share is of the run's samples, which depend on it: the more samples the growth takes, the fewer the steps do.
    """
    if not warmup.share:
        return warmup.amount / tokens_per_sample
    low, high = steps * first, steps * full
    while low < high:
        middle = (low + high + 1) // 2
        if BatchSizes(first, full, warmup.share * middle).position(steps) >= middle:
            low = middle
        else:
            high = middle - 1
    return warmup.share * low
