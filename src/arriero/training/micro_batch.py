"""How many samples go through the model at once."""

from __future__ import annotations

from arriero.training.settings import TrainSettings

TOKENS_AT_ONCE = 4096
"""Tokens of a micro-batch where the settings leave its size open: enough to keep the cores busy (half of it is
4 % slower on two cores), and a bound on the memory of long batches."""


def micro_batch_size(settings: TrainSettings, tokens_per_sample: float) -> int:
    """The settings' micro-batch size, or the number of samples that make about 4096 tokens."""
    if settings.micro_batch_size:
        return settings.micro_batch_size
    return max(1, min(settings.batch_size, int(TOKENS_AT_ONCE // max(1.0, tokens_per_sample))))
