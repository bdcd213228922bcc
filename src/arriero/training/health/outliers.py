"""Which steps to trust: outliers and spikes of the loss and of the gradient's norm.

A step far above those before it is skipped (the rule of OLMo's skip-step optimizer: mean and standard deviation of the
last 128 steps, 6 deviations). When skipping does not help, the weights have been harmed before: that is a spike, and
the run goes back to before it and passes over the data, as PaLM was trained (Chowdhery et al. 2022, section 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from arriero.training.health.settings import HealthSettings

Decision = Literal["take", "skip", "roll back", "stop"]


@dataclass(frozen=True)
class Verdict:
    """What to do with a step, and why (empty when it is taken)."""

    decision: Decision
    why: str = ""


TAKE = Verdict("take")


@dataclass
class History:
    """What the rules remember; a part of the training's state.

    Attributes:
        losses, norms: of the last steps that were taken, oldest first.
        bad: steps not taken since the last one that was.
        bad_since: the first of these.
        rollbacks: spikes so far.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    bad: int = 0
    bad_since: int = 0
    rollbacks: int = 0


class OutlierRule:
    """Judges every step before the weights are updated; a function of the run's history alone."""

    def __init__(self, settings: HealthSettings, history: History) -> None:
        self._settings = settings
        self.history = history

    def judge(self, step: int, loss: float, grad_norm: float) -> Verdict:
        """The verdict on step ``step`` (counted from 1), and the history with it in it."""
        why = self._fault(loss, grad_norm)
        history = self.history
        if not why:
            self._remember(loss, grad_norm)
            return TAKE
        if not history.bad:
            history.bad_since = step
        history.bad += 1
        if history.bad >= self._settings.most_skips:
            return Verdict("stop", f"{why}; it is the {history.bad}th such step without a good one between")
        if self._settings.spike_steps and history.bad == self._settings.spike_steps:
            return Verdict("roll back", why)
        return Verdict("skip", why)

    def _remember(self, loss: float, grad_norm: float) -> None:
        history, window = self.history, self._settings.window
        history.bad = 0
        history.losses = [*history.losses, loss][-window:]
        history.norms = [*history.norms, grad_norm][-window:]

    def _fault(self, loss: float, grad_norm: float) -> str:
        for name, value, before in (
            ("loss", loss, self.history.losses),
            ("gradient norm", grad_norm, self.history.norms),
        ):
            if not math.isfinite(value):
                return f"the {name} is {value:g}"
            limit = self._limit(before)
            if value > limit:
                return f"the {name} {value:.4g} is above {limit:.4g}, an outlier among the last {len(before)} steps"
        return ""

    def _limit(self, values: Sequence[float]) -> float:
        """Highest value that is taken; everything is, while less than half a window is known."""
        sigma = self._settings.outlier_sigma
        if not sigma or len(values) < self._settings.window // 2:
            return math.inf
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        return (
            mean + sigma * deviation + 1e-3 * abs(mean)
        )  # values that are all alike leave room for rounding
