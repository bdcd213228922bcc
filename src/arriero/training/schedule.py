"""Learning rate over the run: linear warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math

from arriero.training.duration import Warmup
from arriero.training.settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """Learning rate of optimizer step ``step`` (from 0) of ``total``.

    Step ``w`` of a warm-up of W steps has (w + 1) / W of the peak, so that no step is wasted on zero;
    the last step has ``min_lr_ratio`` of it (cosine: Loshchilov and Hutter 2017, without restarts).
    """
    warmup = Warmup.parse(settings.warmup).steps(total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - warmup + 1) / max(1, total - warmup)
    falling = 1 - done if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * (settings.min_lr_ratio + (1 - settings.min_lr_ratio) * falling)
