"""Held-out evaluations in the course of a run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from arriero.training.evaluation import evaluate, evaluation_indices
from arriero.training.metrics import Totals
from arriero.training.micro_batch import micro_batch_size
from arriero.training.objectives.base import Batch, Objective
from arriero.training.precision import Precision
from arriero.training.settings import TrainSettings


class HeldOut:
    """The same held-out samples, scored again and again.

    Args:
        each: called after every micro-batch, to count and to let the user stop.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        objective: Objective | None,
        settings: TrainSettings,
        precision: Precision,
        each: Callable[[Batch], None],
    ) -> None:
        self._model = model
        self._objective = objective if objective is not None and len(objective) else None
        self._precision = precision
        self._each = each
        if self._objective is not None:
            self._indices = evaluation_indices(self._objective, settings.eval_samples)
            self._micro_batch = micro_batch_size(settings, self._objective.tokens_per_sample())

    @property
    def there(self) -> bool:
        """True when there is something to score."""
        return self._objective is not None

    def score(self, totals: Totals) -> dict[str, float]:
        """Score now, keep the result in the totals, and return the line for the log."""
        assert self._objective is not None
        means = evaluate(
            self._model, self._objective, self._indices,
            micro_batch=self._micro_batch, precision=self._precision, each=self._each,
        )  # fmt: skip
        spent = {"cpu_seconds": round(totals.cpu_seconds, 3), "train_seconds": round(totals.train_seconds, 3)}
        totals.evaluations.append({"step": totals.step, "tokens": totals.tokens, **spent, **means})
        figures = {f"heldout_{name}": value for name, value in means.items() if name != "weight"}
        return {"step": totals.step, "tokens_seen": totals.tokens, **spent, **figures}
