"""Held-out evaluations in the course of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from arriero.training.evaluation import evaluate, evaluation_indices
from arriero.training.metrics import Totals
from arriero.training.micro_batch import micro_batch_size
from arriero.training.objectives.base import Batch, Objective
from arriero.training.parallel.team import Team
from arriero.training.precision import Precision
from arriero.training.settings import TrainSettings


@dataclass(frozen=True)
class HeldOutSource:
    """Held-out samples of one source.

    Attributes:
        share: of the source in the mixture that is trained on; what the mean over all sources is weighted with.
        scored_per_byte: scored tokens a byte of text, which makes bits a byte of nats a token; None: not text.
    """

    objective: Objective
    share: float = 1.0
    scored_per_byte: float | None = None

    def figures(self, means: Mapping[str, float]) -> dict[str, float]:
        """The means, with bits a byte where they can be told."""
        if self.scored_per_byte is None:
            return dict(means)
        return {**means, "bits_per_byte": means["loss"] / math.log(2) * self.scored_per_byte}


Held = Objective | Mapping[str, HeldOutSource] | None


def held_sources(heldout: Held) -> dict[str, HeldOutSource]:
    """The sources that have samples, by name; a single one has none."""
    if heldout is None:
        return {}
    sources = {"": HeldOutSource(heldout)} if isinstance(heldout, Objective) else dict(heldout)
    return {name: source for name, source in sources.items() if len(source.objective)}


class HeldOut:
    """The same held-out samples, scored again and again.

    Args:
        team: the processes that share the samples.
        each: called after every micro-batch, to count and to let the user stop.
    """

    def __init__(
        self,
        team: Team,
        heldout: Held,
        settings: TrainSettings,
        precision: Precision,
        each: Callable[[Batch], None],
    ) -> None:
        self._team = team
        self._sources = held_sources(heldout)
        self._settings = settings
        self._precision = precision
        self._each = each
        self._indices = {
            name: evaluation_indices(source.objective, settings.eval_samples)
            for name, source in self._sources.items()
        }

    @property
    def there(self) -> bool:
        """True when there is something to score."""
        return bool(self._sources)

    def score(self, totals: Totals) -> dict[str, float]:
        """Score now, keep the result in the totals, and return the line for the log."""
        found = {name: self._score(name, source) for name, source in self._sources.items()}
        means = self._together(found)
        spent = {"cpu_seconds": round(totals.cpu_seconds, 3), "train_seconds": round(totals.train_seconds, 3)}
        record: dict[str, Any] = {"step": totals.step, "tokens": totals.tokens, **spent, **means}
        figures = {f"heldout_{name}": value for name, value in means.items() if name != "weight"}
        if len(found) > 1:
            record["sources"] = found
            for source, values in found.items():
                shown = "bits_per_byte" if "bits_per_byte" in values else "loss"
                figures[f"heldout_{shown}_{source}"] = values[shown]
        totals.evaluations.append(record)
        return {"step": totals.step, "tokens_seen": totals.tokens, **spent, **figures}

    def _score(self, name: str, source: HeldOutSource) -> dict[str, float]:
        micro_batch = micro_batch_size(self._settings, source.objective.tokens_per_sample())
        means = evaluate(
            self._team.model, self._team.objective(source.objective), self._indices[name],
            micro_batch=micro_batch, precision=self._precision, each=self._each,
            losses=self._team.losses, count=self._team.count,
        )  # fmt: skip
        return source.figures(means)

    def _together(self, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Means over the sources by their shares; the weight is the sum."""
        if len(found) == 1:
            return dict(next(iter(found.values())))
        total = math.fsum(source.share for source in self._sources.values())
        names = [name for name in next(iter(found.values())) if name != "weight"]
        means = {
            name: math.fsum(self._sources[s].share * values[name] for s, values in found.items()) / total
            for name in names
        }
        return {**means, "weight": math.fsum(values["weight"] for values in found.values())}
