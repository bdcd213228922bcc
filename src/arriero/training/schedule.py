"""Learning rate over the run: linear warm-up, then cosine, linear, constant, inverse square root, or held and let down.

The measure of a run is its steps, or the share of its seconds that is used up; the course is the same along both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from arriero.training.duration import Warmup
from arriero.training.settings import TrainSettings

_FIRST_RAMP = 0.01
"""Of the first step of a run in seconds, whose cost nobody knows yet."""


def warmup_steps(settings: TrainSettings, total: int, steps_of: Callable[[float], int]) -> int:
    """Steps of the warm-up of a run of ``total`` steps.

    Args:
        steps_of: steps that so many tokens take.
    """
    warmup = Warmup.parse(settings.warmup)
    if warmup.unit == "tokens":
        return min(total, steps_of(warmup.amount))
    return min(total, round(total * warmup.share) if warmup.unit == "%" else int(warmup.amount))


def learning_rate(settings: TrainSettings, step: int, total: int, warmup: int) -> float:
    """Learning rate of optimizer step ``step`` (from 0) of ``total``, the first ``warmup`` of which warm up.

    Step ``w`` of a warm-up of W steps has (w + 1) / W of the peak, so that no step is wasted on zero; the last step has
    ``min_lr_ratio`` of it. cosine: Loshchilov and Hutter 2017, without restarts. wsd holds the peak and falls in the
    last ``decay_share`` of the run (Hu et al., arXiv 2404.06395; the 1-sqrt form: Hägele et al., arXiv 2405.18392).
    inverse_sqrt falls with the root of the steps (Vaswani et al. 2017, equation 3, whose
    ``d_model^-0.5 min(n^-0.5, n W^-1.5)`` is the peak ``(d_model W)^-0.5``).
    """
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "inverse_sqrt":
        return settings.learning_rate * math.sqrt(max(1, warmup) / (step + 1))
    start = warmup
    if settings.schedule == "wsd":
        start = max(warmup, total - max(1, round(settings.decay_share * total)))
    return settings.learning_rate * _fallen(settings, (step + 1 - start) / max(1, total - start))


def learning_rate_within(settings: TrainSettings, step: int, used: float, tokens: float = 0.0) -> float:
    """Learning rate of step ``step`` (from 0) of a run that ends when its budget of seconds is used up.

    Args:
        used: share of the budget that will be used when the step is done, as far as can be told before.
        tokens: seen when the step is done, as far as can be told before.
    """
    warmup = Warmup.parse(settings.warmup)
    if warmup.unit == "%":
        ramp, share = max(_FIRST_RAMP, used / warmup.share), warmup.share
    else:
        seen = tokens if warmup.unit == "tokens" else step + 1
        ramp = seen / max(1.0, warmup.amount)
        share = used / ramp if warmup.amount and ramp > 0 else 0.0  # of the budget, at the pace so far
    if ramp < 1:
        return settings.learning_rate * ramp
    if settings.schedule == "inverse_sqrt":
        return settings.learning_rate / math.sqrt(ramp)
    start = max(share, 1 - settings.decay_share) if settings.schedule == "wsd" else share
    done = (used - start) / (1 - start) if start < 1 else 1.0
    return settings.learning_rate * _fallen(settings, min(1.0, done))


def _fallen(settings: TrainSettings, done: float) -> float:
    """Learning rate over its peak when ``done`` of the way down is behind; 1 before it begins."""
    if settings.schedule == "constant" or done <= 0:
        return 1.0
    form = settings.decay_form if settings.schedule == "wsd" else settings.schedule
    if form == "1-sqrt":
        falling = 1 - math.sqrt(done)
    else:
        falling = 1 - done if form == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * falling
