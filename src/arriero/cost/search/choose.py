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
ROUNDING = 1e-9
"""Figures that are apart by no more than this share are one: sums of many terms do not agree to the last digit."""


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
        and to the earlier row: the same plans in the same order always give the same answer. Figures that differ by
        rounding alone (:data:`ROUNDING`) are equal, so that no last digit decides.
        """
        keys = [_ranks(getattr(self.scores, name).middle) for name in FIGURES[self.objective]]
        order: np.ndarray = np.lexsort([*keys, *self._simplicity][::-1])
        return order

    @property
    def _simplicity(self) -> list[np.ndarray]:
        """What tells the simpler of two plans, first things first: fewer devices, fewer cuts, lower ZeRO stage."""
        return [self.plans.devices, self.plans.splits, self.plans.zero]

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

    def ties(self, row: int) -> np.ndarray:
        """Rows of the other plans that do and that cannot be told from this one: each one's deciding figure lies in the
        band of the other's."""
        figure = getattr(self.scores, FIGURES[self.objective][0])
        middle = figure.middle[row]
        near = (figure.low <= middle) & (middle <= figure.high)
        near &= (figure.low[row] <= figure.middle) & (figure.middle <= figure.high[row])
        near &= self.verdict.good
        near[row] = False
        rows: np.ndarray = np.flatnonzero(near)
        return rows

    def simplest(self, rows: np.ndarray) -> int:
        """Of some rows (at least one) that with the fewest devices, then cuts, then the lower ZeRO stage, then the best."""
        keys = [key[rows] for key in (*self._simplicity, self.place)]
        return int(rows[np.lexsort(keys[::-1])[0]])

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


def _ranks(values: np.ndarray) -> np.ndarray:
    """0 for the lowest figure and those equal to it, and so on; unknown ones come last."""
    order = np.argsort(values, kind="stable")
    risen = values[order]
    new = (risen[1:] > risen[:-1] * (1 + ROUNDING)) | (np.isnan(risen[1:]) & ~np.isnan(risen[:-1]))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(new)])[: len(values)]
    return ranks


def _first(order: np.ndarray, mask: np.ndarray, among: np.ndarray | None) -> int | None:
    found = order[(mask if among is None else mask & among)[order]]
    return int(found[0]) if len(found) else None
