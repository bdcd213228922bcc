"""Why not the others: the plans next to the best one, each with what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arriero.cost.search.choose import Objective, Search
from arriero.planning.goal.words import Wording


@dataclass(frozen=True)
class Other:
    """A plan that was not taken.

    Attributes:
        label: what about it is different. row: in the search. why: in words. does: it keeps to all limits.
    """

    label: str
    row: int
    why: str
    does: bool


def others(words: Wording, best: int | None, closest: int | None = None) -> list[Other]:
    """Plans beside the best one: other objective, fewer and more devices, a larger micro-batch, other devices.

    Where no plan does, the plans of the devices other than that of the ``closest`` plan that come nearest.
    """
    search = words.search
    found = [] if best is None else [*_beside(words, best), *_step_up(words, best)]
    told = best if best is not None else closest
    skip = None if told is None else int(search.plans.hardware[told])
    devices = [
        _of(words, "other device", search.plans.hardware == n, best)
        for n in range(len(words.offers))
        if n != skip
    ]
    known = [other for other in devices if other is not None]
    return [*found, *sorted(known, key=lambda other: (not other.does, search.place[other.row]))]


def unknown_devices(words: Wording) -> list[Other]:
    """One plan of each kind of device that no figure decides about: what it lacks, and what is known."""
    search = words.search
    found = []
    for number in range(len(words.offers)):
        rows = np.flatnonzero(search.unknown & (search.plans.hardware == number))
        if len(rows) and search.best(search.plans.hardware == number) is None:
            row = _quickest(search, rows)
            found.append(Other("unknown", row, words.unknown(row), False))
    return found


def _quickest(search: Search, rows: np.ndarray) -> int:
    """The fastest plan of some; the first where no time is known."""
    seconds = np.nan_to_num(search.scores.seconds.middle[rows], nan=np.inf)
    return int(rows[int(np.argmin(seconds))])


def _of(words: Wording, label: str, among: np.ndarray, best: int | None) -> Other | None:
    """The best plan of a mask with its difference from the best of all, otherwise the nearest miss."""
    search = words.search
    row = search.best(among)
    if row is not None:
        return Other(label, row, "" if best is None else words.against(row, best), True)
    # a plan that only a price keeps from being judged may do: then no other of its kind says why not
    open_question = search.unknown & among & ~np.isnan(search.scores.seconds.middle)
    row = None if open_question.any() else search.nearest_miss(among)
    return None if row is None else Other(label, row, words.verdict(row), False)


def _beside(words: Wording, best: int) -> list[Other]:
    """The same kind of device in other numbers, and the best plan by the other objective."""
    search = words.search
    plans = search.plans
    same = plans.hardware == plans.hardware[best]
    count = int(plans.devices[best])
    counts = sorted(set(plans.devices[same].tolist()))
    found = []
    fewer = [n for n in counts if n < count]
    more = [n for n in counts if n > count]
    if fewer[-1:]:
        found.append(_of(words, "fewer", same & (plans.devices == fewer[-1]), best))
    if fewer[:1] and fewer[0] != fewer[-1]:
        found.append(
            _of(words, "one" if fewer[0] == 1 else "fewest", same & (plans.devices == fewer[0]), best)
        )
    if more:
        found.append(_of(words, "more", same & (plans.devices == more[0]), best))
    found.append(_other_objective(words, best))
    return [other for other in found if other is not None and other.row != best]


def _other_objective(words: Wording, best: int) -> Other | None:
    search = words.search
    turned: dict[Objective, tuple[Objective, str]] = {
        "cheapest": ("fastest", "fastest"), "fastest": ("cheapest", "cheapest"), "greenest": ("cheapest", "cheapest"),
    }  # fmt: skip
    objective, label = turned[search.objective]
    row = Search(search.plans, search.scores, search.limits, objective).best()
    return None if row is None or row == best else Other(label, row, words.against(row, best), True)


def _step_up(words: Wording, best: int) -> list[Other]:
    """The same plan with the next larger micro-batch, and without recomputation: what keeps them from being taken."""
    search, plans = words.search, words.search.plans
    found = []
    for label, column in (("larger micro-batch", "micro_batch"), ("less recompute", "recompute")):
        held = [n for n in ("hardware", "variant", "devices", "data", "tensor", "context", "pipeline", "zero",
                            "micro_batch", "recompute") if n != column]  # fmt: skip
        same = np.logical_and.reduce([getattr(plans, name) == getattr(plans, name)[best] for name in held])
        mine = getattr(plans, column)
        beyond = same & ((mine > mine[best]) if column == "micro_batch" else (mine < mine[best]))
        if beyond.any():
            nearest = mine[beyond].min() if column == "micro_batch" else mine[beyond].max()
            other = _of(words, label, beyond & (mine == nearest), best)
            found += (
                [] if other is None or (other.does and not _notable(search, other.row, best)) else [other]
            )
    return found


def _notable(search: Search, row: int, best: int) -> bool:
    """Whether a plan that does differs by more than a part in a hundred of the time."""
    seconds = search.scores.seconds.middle
    return abs(float(seconds[row] / seconds[best]) - 1) > 0.01
