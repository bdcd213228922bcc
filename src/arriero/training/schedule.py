"""Learning rate over the run: linear warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math

from arriero.training.duration import Warmup
from arriero.training.settings import TrainSettings

_FIRST_RAMP = 0.01
"""Of the first step of a run in seconds, whose cost nobody knows yet."""


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """Learning rate of optimizer step ``step`` (from 0) of ``total``.

    Step ``w`` of a warm-up of W steps has (w + 1) / W of the peak, so that no step is wasted on zero;
    the last step has ``min_lr_ratio`` of it (cosine: Loshchilov and Hutter 2017, without restarts). ``inverse_sqrt``
    falls with the root of the steps instead (Vaswani et al. 2017, equation 3: their peak is (d_model W)^-1/2).
    """
    warmup = Warmup.parse(settings.warmup).steps(total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "inverse_sqrt":
        return settings.learning_rate * math.sqrt(max(1, warmup) / (step + 1))
    return settings.learning_rate * _fallen(settings, (step - warmup + 1) / max(1, total - warmup))


def learning_rate_within(settings: TrainSettings, step: int, used: float) -> float:
    """Learning rate of step ``step`` (from 0) of a run that ends when its budget of seconds is used up.

    The same course along another measure: the budget takes the place of the number of steps.

    Args:
        used: share of the budget that will be used when the step is done, as far as can be told before.
    """
    warmup = Warmup.parse(settings.warmup)
    share = warmup.amount / 100 if warmup.unit == "%" else 0.0
    if share:
        ramp = max(_FIRST_RAMP, used / share)
    else:
        ramp = (step + 1) / max(1.0, warmup.amount)
    if ramp < 1:
        return settings.learning_rate * ramp
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "inverse_sqrt":
        return settings.learning_rate / math.sqrt(ramp)
    done = (used - share) / (1 - share) if share < 1 else 1.0
    return settings.learning_rate * _fallen(settings, min(1.0, max(0.0, done)))


def _fallen(settings: TrainSettings, done: float) -> float:
    """Learning rate over its peak when ``done`` of the way down is behind."""
    falling = 1 - done if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * falling
