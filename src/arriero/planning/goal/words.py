"""Plans, misfits and differences in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from arriero.cost.memory import KINDS
from arriero.cost.search.choose import FIGURES, Search
from arriero.cost.search.columns import MODES, Range
from arriero.cost.search.evaluate import Offer
from arriero.cost.search.limits import Misfit
from arriero.cost.units import UNKNOWN, format_energy, format_money, format_seconds, round_text
from arriero.planning.estimate.figures import GIB, gib
from arriero.planning.goal.variants import Variant

MEMORY_KINDS = tuple(kind for kind in KINDS if kind != "runtime")
"""What numbers in ``Scores.kind`` stand for."""
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Wording:
    """What words about the rows of a search need to know.

    Attributes:
        deadline: as it was said, "Friday 18:00" or "5d"; empty: there is none.
    """

    search: Search
    offers: list[Offer]
    variants: list[Variant]
    currency: str
    deadline: str

    def _int(self, column: str, row: int) -> int:
        return int(getattr(self.search.plans, column)[row])

    def offer(self, row: int) -> Offer:
        return self.offers[self._int("hardware", row)]

    def variant(self, row: int) -> Variant:
        return self.variants[self._int("variant", row)]

    def devices(self, row: int) -> str:
        """`8x H100-SXM5-80GB`."""
        return f"{self._int('devices', row)}x {self.offer(row).hardware.name}"

    def layout(self, row: int) -> str:
        """`data 8, ZeRO 3 (FSDP), micro-batch 16 x 4096, no recompute, bf16`."""
        cuts = [
            f"{word} {n}"
            for word in ("data", "tensor", "context", "pipeline")
            if (n := self._int(word, row)) > 1
        ]
        zero = self._int("zero", row)
        if zero:
            cuts.append("ZeRO 3 (FSDP)" if zero == 3 else f"ZeRO {zero}")
        variant = self.variant(row)
        micro = f"micro-batch {self._int('micro_batch', row)} x {variant.workload.context}"
        mode = MODES[self._int("recompute", row)]
        return ", ".join(
            [*cuts, micro, "no recompute" if mode == "none" else f"{mode} recompute", variant.words]
        )

    def misfit(self, found: Misfit, row: int) -> str:
        """`short by 3.1 GiB: logits`, `misses Friday by 9 h`, `over the budget by 40 USD`."""
        if found.limit == "memory":
            return f"short by {gib(found.amount, 2)}: {MEMORY_KINDS[int(self.search.scores.kind[row])]}"
        if found.limit == "deadline":
            return f"misses {self._deadline()} by {format_seconds(found.amount, 2)}"
        return f"over the budget by {money(found.amount, self.currency)}"

    def _deadline(self) -> str:
        word = self.deadline.strip().split(" ")[0]
        return word.capitalize() if word[:3].lower() in _DAYS else "the deadline"

    def verdict(self, row: int) -> str:
        """Why this plan does not do; empty where it does."""
        found = self.search.verdict.misfit(row)
        return self.misfit(found, row) if found else ""

    def unknown(self, row: int) -> str:
        """What is not known of a plan, by source."""
        offer, variant = self.offer(row), self.variant(row)
        missing = []
        if offer.hardware.memory_bytes is None:
            missing.append(f"nobody has told the memory of {offer.hardware.name}")
        if math.isnan(self.search.scores.seconds.middle[row]):
            missing.append(
                "its time: "
                + ("; ".join(offer.coefficients[variant.dtype].missing) or "something is unknown")
            )
        if not offer.price.known:
            missing.append(offer.price.source)
        if not offer.watts.known:
            missing.append(offer.watts.source)
        return "; ".join(missing)

    def tie(self, best: int) -> str:
        """Which plans the figures cannot tell from the best one, and the simplest of them; empty where there are none."""
        search = self.search
        tied = search.ties(best)
        if not len(tied):
            return ""
        figure = FIGURES[search.objective][0]
        noun = {"seconds": "time"}.get(figure, figure)
        text = f"{_counted(len(tied), 'other plan')} within each other's band of {noun}; the lowest middle is chosen"
        row = search.simplest(np.append(tied, best))
        if row == best:
            return f"{text}, and none of them is simpler"
        return f"{text}; the simplest is {self.devices(row)}, {self.layout(row)}: {self.against(row, best)}"

    def against(self, row: int, best: int) -> str:
        """`4.10 USD more, 1.6 h sooner`: first the figure that decides, then what is got for it."""
        parts = [
            _difference(name, self.search, row, best, self.currency)
            for name in FIGURES[self.search.objective][:2]
        ]
        return ", ".join(part for part in parts if part)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _difference(figure: str, search: Search, row: int, best: int, currency: str) -> str:
    values = getattr(search.scores, figure).middle
    more = float(values[row] - values[best])
    if math.isnan(more):
        return ""
    same = abs(more) <= 5e-4 * abs(float(values[best]))
    if figure == "seconds":
        return (
            "the same time" if same else f"{format_seconds(abs(more), 2)} {'later' if more > 0 else 'sooner'}"
        )
    text = money(abs(more), currency) if figure == "money" else format_energy(abs(more), 2)
    noun = "money" if figure == "money" else "energy"
    return f"the same {noun}" if same else f"{text} {'more' if more > 0 else 'less'}"


def money(amount: float, currency: str) -> str:
    """Money as precise as the estimate is: cents below ten, whole units from ten on."""
    if amount >= 9.995:
        return f"{round_text(amount, 3)} {currency}"
    return format_money(amount, currency)


def ranged(figure: Range, row: int, kind: str, currency: str = "") -> str:
    """`3.5 h (2.6-4.7 h)`: the middle with its band; "unknown" where it is."""
    middle = float(figure.middle[row])
    if math.isnan(middle):
        return UNKNOWN
    ends = [_figure(float(end[row]), kind, currency) for end in (figure.low, figure.high)]
    unit = _figure(middle, kind, currency).rpartition(" ")[2]
    if all(end.rpartition(" ")[2] == unit for end in ends):
        ends = [end.rpartition(" ")[0] for end in ends]
    return f"{_figure(middle, kind, currency)} ({ends[0]}–{ends[1]})"


def _figure(value: float, kind: str, currency: str) -> str:
    if kind == "seconds":
        return format_seconds(value, 2)
    if kind == "energy":
        return format_energy(value, 2)
    return f"{round_text(value / GIB, 2)} GiB" if kind == "memory" else money(value, currency)
