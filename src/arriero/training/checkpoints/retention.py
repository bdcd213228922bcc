"""Which checkpoints stay: the newest, the best, and every so many steps one for good."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Saved:
    """A checkpoint there is: its step, and the held-out loss of these weights if it was measured."""

    step: int
    loss: float | None = None


@dataclass(frozen=True)
class Retention:
    """How many checkpoints stay.

    Attributes:
        newest: the last ones, whatever else they are; at least 1.
        best: those with the lowest held-out loss.
        every: those whose step is a multiple of it stay as long as the run's state does; 0 = none.
    """

    newest: int
    best: int = 0
    every: int = 0

    def permanent(self, step: int) -> bool:
        """True for a step whose checkpoint stays for good."""
        return bool(self.every) and step > 0 and step % self.every == 0

    def kept(self, saved: Iterable[Saved]) -> set[int]:
        """Steps of those that stay."""
        ordered = sorted(saved, key=lambda one: one.step)
        newest = {one.step for one in ordered[-self.newest :]}
        forever = {one.step for one in ordered if self.permanent(one.step)}
        return newest | forever | {one.step for one in ranking(ordered)[: self.best]}


def ranking(saved: Iterable[Saved]) -> list[Saved]:
    """Those with a held-out loss, the lowest first; the earlier of two equal ones."""
    scored = [one for one in saved if one.loss is not None]
    return sorted(scored, key=lambda one: (one.loss, one.step))
