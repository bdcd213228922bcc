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

LEAST_LOSS, LEAST_NORM = 0.1, 2.0
"""An outlier is above the mean by so many times the mean, at least."""
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
    """Judges every step before the weights are updated; a function of the run's history alone.

    An outlier lies beyond the deviations and is some way above the mean too: in a calm stretch the deviation alone
    would make outliers of steps that do no harm. A gradient that stays large while the loss is as before is a new
    stretch of the run, not a spike (clipping bounds what it does), so after ``spike_steps`` of it the rule starts anew.
    """

    def __init__(self, settings: HealthSettings, history: History) -> None:
        self._settings = settings
        self.history = history

    def judge(self, step: int, loss: float, grad_norm: float) -> Verdict:
        """The verdict on step ``step`` (counted from 1), and the history with it in it."""
        history, settings = self.history, self._settings
        why, harmless = self._fault(loss, grad_norm)
        if why and harmless and settings.spike_steps and history.bad + 1 >= settings.spike_steps:
            self.start_anew()
            why = ""
        if not why:
            self._remember(loss, grad_norm)
            return TAKE
        if not history.bad:
            history.bad_since = step
        history.bad += 1
        if history.bad >= settings.most_skips:
            return Verdict("stop", f"{why}; it is the {history.bad}th such step without a good one between")
        if settings.spike_steps and history.bad == settings.spike_steps:
            return Verdict("roll back", why)
        return Verdict("skip", why)

    def start_anew(self) -> None:
        """Forget the steps before: what comes now is ordinary."""
        self.history.losses, self.history.norms = [], []

    def _remember(self, loss: float, grad_norm: float) -> None:
        history, window = self.history, self._settings.window
        history.bad = 0
        history.losses = [*history.losses, loss][-window:]
        history.norms = [*history.norms, grad_norm][-window:]

    def _fault(self, loss: float, grad_norm: float) -> tuple[str, bool]:
        """What is wrong with a step (empty: nothing), and whether it may be the run's new course."""
        for name, value, before, least in (
            ("loss", loss, self.history.losses, LEAST_LOSS),
            ("gradient norm", grad_norm, self.history.norms, LEAST_NORM),
        ):
            if not math.isfinite(value):
                return f"the {name} is {value:g}", False
            limit = self._limit(before, least)
            if value > limit:
                why = f"the {name} {value:.4g} is above {limit:.4g}, an outlier among the last {len(before)} steps"
                return why, before is self.history.norms
        return "", False

    def _limit(self, values: Sequence[float], least: float) -> float:
        """Highest value that is taken; everything is, while less than half a window is known."""
        sigma = self._settings.outlier_sigma
        if not sigma or len(values) < self._settings.window // 2:
            return math.inf
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        return mean + max(sigma * deviation, least * abs(mean))
