"""The best plan for a goal, the Pareto set, and the nearest miss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from arriero.cost.search.columns import Plans, Scores
from arriero.cost.search.limits import Limits, Verdict, judge
from arriero.cost.search.pareto import pareto

Objective = Literal["cheapest", "fastest", "greenest"]
FIGURES: dict[Objective, tuple[str, str, str]] = {
    "cheapest": ("money", "seconds", "energy"),
    "fastest": ("seconds", "money", "energy"),
    "greenest": ("energy", "money", "seconds"),
}
"""What decides, and what decides between equals."""


@dataclass(frozen=True)
class Search:
    """Plans, their scores, the limits and the objective; every question about them that has one answer.

    ``among`` restricts a question to some rows (a mask); the answers are row numbers.
    """

    plans: Plans
    scores: Scores
    limits: Limits
    objective: Objective

    @cached_property
    def verdict(self) -> Verdict:
        return judge(self.scores, self.limits)

    @cached_property
    def order(self) -> np.ndarray:
        """Rows from best to worst by the middle of the bands; an unknown figure comes last.

        Ties go by the other two figures, then to fewer devices, to fewer cuts of the model, to the lower ZeRO stage,
        and to the earlier row: the same plans in the same order always give the same answer.
        """
        keys = [getattr(self.scores, name).middle for name in FIGURES[self.objective]]
        keys += [self.plans.devices, self.plans.splits, self.plans.zero]
        order: np.ndarray = np.lexsort(keys[::-1])
        return order

    @cached_property
    def place(self) -> np.ndarray:
        """Place of each row in the order, 0 for the best."""
        place = np.empty(len(self.plans), dtype=np.int64)
        place[self.order] = np.arange(len(self.plans))
        return place

    @cached_property
    def unranked(self) -> np.ndarray:
        """Mask of the plans whose deciding figure is unknown."""
        mask: np.ndarray = np.isnan(getattr(self.scores, FIGURES[self.objective][0]).middle)
        return mask

    @cached_property
    def unknown(self) -> np.ndarray:
        """Mask of the plans that nobody can judge: no limit is known to be missed, but a needed figure is unknown."""
        mask: np.ndarray = ~self.verdict.bad & (self.verdict.unknown | self.unranked)
        return mask

    def best(self, among: np.ndarray | None = None) -> int | None:
        """The best plan that keeps to all limits; None where there is none or none whose figure is known."""
        return _first(self.order, self.verdict.good & ~self.unranked, among)

    def nearest_miss(self, among: np.ndarray | None = None) -> int | None:
        """The plan that comes closest to doing, of those that miss a limit.

        One that fits in memory comes before one that does not, one that is in time before one that is late; among
        equals the smallest miss decides, then the objective.
        """
        return _first(self._by_miss, self.verdict.bad, among)

    def pareto(self, among: np.ndarray | None = None) -> np.ndarray:
        """The Pareto set over money, time and energy, of the plans that fit in memory; cheapest first."""
        fits = self.verdict.shortage <= 0
        able = np.flatnonzero(fits if among is None else fits & among)
        figures = (self.scores.money, self.scores.seconds, self.scores.energy)
        rows: np.ndarray = able[pareto(np.stack([figure.middle[able] for figure in figures], axis=1))]
        return rows

    @cached_property
    def _by_miss(self) -> np.ndarray:
        found = self.verdict
        stage = np.select([found.shortage > 0, found.late > 0, found.excess > 0], [2, 1, 0], 3)
        amount = np.select([stage == 2, stage == 1], [found.shortage, found.late], found.excess)
        order: np.ndarray = np.lexsort([self.place, amount, stage])
        return order


def _first(order: np.ndarray, mask: np.ndarray, among: np.ndarray | None) -> int | None:
    found = order[(mask if among is None else mask & among)[order]]
    return int(found[0]) if len(found) else None
