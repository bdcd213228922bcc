"""What a plan must keep to, and by how much each plan misses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from arriero.cost.search.columns import End, Scores

Limit = Literal["memory", "deadline", "budget"]


@dataclass(frozen=True)
class Limits:
    """The deadline in seconds, the budget in the tariff's currency; None: there is none.

    ``judged_by`` says which end of the bands of time and money has to keep to them; memory is always judged by the
    upper end, since a run that overflows ends.
    """

    deadline: float | None = None
    budget: float | None = None
    judged_by: End = "high"


@dataclass(frozen=True)
class Misfit:
    """Why a plan does not do: the limit that it misses first, and by how much (bytes, seconds, money)."""

    limit: Limit
    amount: float


@dataclass(frozen=True)
class Verdict:
    """How far over each limit each plan is; float64 [plans], 0 or less: it keeps to it, NaN: unknown."""

    shortage: np.ndarray
    late: np.ndarray
    excess: np.ndarray

    @property
    def _all(self) -> np.ndarray:
        return np.stack([self.shortage, self.late, self.excess])

    @property
    def good(self) -> np.ndarray:
        """Keeps to all limits, and that is known."""
        mask: np.ndarray = np.all(self._all <= 0, axis=0)
        return mask

    @property
    def bad(self) -> np.ndarray:
        """Misses a limit."""
        mask: np.ndarray = np.any(self._all > 0, axis=0)
        return mask

    @property
    def unknown(self) -> np.ndarray:
        """Misses no limit as far as is known, but a figure is unknown."""
        return ~self.good & ~self.bad

    def misfit(self, plan: int) -> Misfit | None:
        """The limit that the plan misses first: memory, then the deadline, then the budget."""
        found: tuple[tuple[Limit, np.ndarray], ...] = (
            ("memory", self.shortage), ("deadline", self.late), ("budget", self.excess),
        )  # fmt: skip
        return next((Misfit(name, float(over[plan])) for name, over in found if over[plan] > 0), None)


def judge(scores: Scores, limits: Limits) -> Verdict:
    """By how much each plan is over each limit."""

    def over(figures: np.ndarray, most: float | None) -> np.ndarray:
        return np.full(len(scores), -np.inf) if most is None else figures - most

    return Verdict(
        shortage=scores.memory.high - scores.capacity,
        late=over(scores.seconds.end(limits.judged_by), limits.deadline),
        excess=over(scores.money.end(limits.judged_by), limits.budget),
    )
