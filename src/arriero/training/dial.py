"""One dial for the size of a model: its depth. Width, heads, batch and learning rate follow.

The shape is nanochat's (``scripts/base_train.py``: 64 of width for each block, so that a series of depths is a series
of like models). Batch and learning rate are the fits of DeepSeek LLM (arXiv 2401.02954, section 3.1) to the run's
arithmetic C = 6 N D, and where the batch is another than the fit's, the learning rate moves with its square root, as
nanochat's does.
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from arriero.training.duration import Duration

if TYPE_CHECKING:
    from arriero.training.architecture import ArchitectureSettings

    Settings = TypeVar("Settings", bound=ArchitectureSettings)

ASPECT = 64
"""Width of a block of the depth."""
_NARROW_HEAD, _WIDE_HEAD, _WIDE_FROM = 64, 128, 1024
_RATE, _RATE_POWER = 0.3118, -0.1250
_BATCH, _BATCH_POWER = 0.2920, 0.3271
_MOST = 3e-3
"""The fits are from runs of 1e17 FLOP and more, where the learning rate is 2.3e-3; for smaller ones it goes no higher than this."""
_RELATIVE_RATE = 1e-2
"""Of Adafactor, whose steps are relative to the weights."""
_TOKENS_PER_PARAMETER = 20
"""Assumed for a run in seconds, whose tokens nobody knows; at most one epoch."""


def shape_of(depth: int) -> dict[str, int]:
    """``n_layers``, ``d_model`` and ``n_heads`` of a depth; the width is rounded up to whole heads.

    Heads are 64 wide, and 128 from a width of 1024 on.
    """
    head = _WIDE_HEAD if ASPECT * depth >= _WIDE_FROM else _NARROW_HEAD
    heads = math.ceil(ASPECT * depth / head)
    return {"n_layers": depth, "d_model": heads * head, "n_heads": heads}


@dataclass(frozen=True)
class Fit:
    """The best batch and learning rate for training N parameters on D tokens."""

    parameters: int
    tokens: float

    @property
    def batch_tokens(self) -> float:
        """0.2920 C^0.3271."""
        return float(_BATCH * (6 * self.parameters * self.tokens) ** _BATCH_POWER)

    @property
    def learning_rate(self) -> float:
        """0.3118 C^-0.1250."""
        return float(_RATE * (6 * self.parameters * self.tokens) ** _RATE_POWER)


def dialled(settings: Settings, parameters: int, window: int, n_windows: int, given: Set[str]) -> Settings:
    """The settings with the batch and the learning rate of their depth; as they are where no depth is set.

    Args:
        parameters: of the model, all of them.
        window: tokens of a sample.
        n_windows: samples in the training set.
        given: names of the settings that the user has set; these stay.
    """
    if settings.depth is None:
        return settings
    batch = settings.batch_size if "batch_size" in given else 0
    fit = Fit(parameters, _run_tokens(settings, parameters, window, n_windows, batch))
    if not batch:
        batch = min(2 ** max(0, round(math.log2(fit.batch_tokens / window))), max(1, n_windows))
    changes: dict[str, Any] = {"batch_size": batch}
    if "learning_rate" not in given:
        scale = math.sqrt(batch * window / fit.batch_tokens)
        rate = min(_MOST, fit.learning_rate * scale)
        if settings.optimizer == "adafactor":
            rate = _RELATIVE_RATE
        changes["learning_rate"] = float(f"{rate:.3g}")
    return settings.model_copy(update=changes)


def _run_tokens(
    settings: ArchitectureSettings, parameters: int, window: int, n_windows: int, batch: int
) -> float:
    """Tokens that the run will see; ``batch``: samples a step, 0 where it is still to be chosen."""
    duration, epoch = Duration.parse(settings.duration).for_model(parameters), float(n_windows * window)
    if duration.unit == "tokens":
        return duration.amount
    if duration.unit == "epochs":
        return duration.amount * epoch
    if duration.timed:
        return min(epoch, float(_TOKENS_PER_PARAMETER * parameters))
    if batch:
        return duration.amount * batch * window
    # steps of the fit's own batch B: D = steps B and B = b (6 N D)^p give B = (b (6 N steps)^p)^(1 / (1 - p))
    best = (_BATCH * (6 * parameters * duration.amount) ** _BATCH_POWER) ** (1 / (1 - _BATCH_POWER))
    return duration.amount * best


def note(settings: ArchitectureSettings, config: Any) -> str:
    """What the dial chose, as one line."""
    return (
        f"depth {settings.depth}: {config.n_layers} blocks of width {config.d_model}, {config.n_heads} heads of "
        f"{config.head_dim}; batch {settings.batch_size}, learning rate {settings.learning_rate:g}"
    )
