"""A figure that knows how far to trust it: low, middle, high, and what it rests on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Basis = Literal["measured", "modelled", "declared", "unknown"]
"""measured: read off a clock or counter · modelled: worked out from measured or declared figures ·
declared: somebody said so (a price list, a data sheet, the user) · unknown: nobody knows, so no figure."""

_RANK = {"measured": 0, "declared": 1, "modelled": 2, "unknown": 3}


def weakest(*bases: Basis) -> Basis:
    """What a figure rests on that was worked out from figures with these bases.

    Figures of one basis keep it; a mixture is 'modelled'; anything unknown makes the result unknown.
    """
    found = set(bases)
    if not found or "unknown" in found:
        return "unknown"
    return found.pop() if len(found) == 1 else "modelled"


class Quantity(BaseModel):
    """A value with its band. ``low <= value <= high``; all three are None exactly when it is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str
    basis: Basis = "unknown"
    source: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Quantity:
        figures = (self.low, self.value, self.high)
        if self.basis == "unknown":
            if any(figure is not None for figure in figures):
                raise ValueError("an unknown quantity has no figure")
        elif self.value is None or self.low is None or self.high is None:
            raise ValueError(f"a {self.basis} quantity needs low, value and high")
        elif not self.low <= self.value <= self.high:
            raise ValueError(f"low {self.low} <= value {self.value} <= high {self.high} does not hold")
        return self

    @classmethod
    def unknown(cls, unit: str, why: str = "") -> Quantity:
        """No figure, and why."""
        return cls(unit=unit, source=why)

    @classmethod
    def exact(cls, value: float, unit: str, basis: Basis, source: str = "") -> Quantity:
        """A figure without a band (a count, a meter reading)."""
        return cls(value=value, low=value, high=value, unit=unit, basis=basis, source=source)

    @classmethod
    def band(cls, value: float, spread: float, unit: str, basis: Basis, source: str = "") -> Quantity:
        """``value`` with a multiplicative band: low = value / (1 + spread), high = value * (1 + spread)."""
        return cls(
            value=value,
            low=value / (1 + spread),
            high=value * (1 + spread),
            unit=unit,
            basis=basis,
            source=source,
        )

    @property
    def known(self) -> bool:
        return self.basis != "unknown"

    def scaled(self, factor: float, unit: str | None = None, source: str | None = None) -> Quantity:
        """This quantity times an exact, non-negative factor; unknown stays unknown."""
        if not self.known:
            return Quantity.unknown(unit or self.unit, source if source is not None else self.source)
        return self.times(Quantity.exact(factor, "", self.basis), unit or self.unit, source)

    def times(self, other: Quantity, unit: str, source: str | None = None) -> Quantity:
        """Product of two non-negative quantities; the bands multiply (they may well err together)."""
        basis = weakest(self.basis, other.basis)
        why = source if source is not None else "; ".join(filter(None, (self.source, other.source)))
        if basis == "unknown":
            return Quantity.unknown(unit, why)
        assert self.value is not None and self.low is not None and self.high is not None
        assert other.value is not None and other.low is not None and other.high is not None
        return Quantity(
            value=self.value * other.value, low=self.low * other.low, high=self.high * other.high,
            unit=unit, basis=basis, source=why,
        )  # fmt: skip


def total(quantities: list[Quantity], unit: str) -> Quantity:
    """Sum of quantities of one unit. Bands add (errors of one cost model go the same way).

    An unknown part makes the sum unknown: a total that silently leaves something out is worse than none.
    """
    if not quantities:
        return Quantity.exact(0.0, unit, "measured")
    basis = weakest(*(q.basis for q in quantities))
    if basis == "unknown":
        missing = sum(not q.known for q in quantities)
        return Quantity.unknown(unit, f"{missing} of {len(quantities)} parts are unknown")
    return Quantity(
        value=sum(q.value or 0.0 for q in quantities),
        low=sum(q.low or 0.0 for q in quantities),
        high=sum(q.high or 0.0 for q in quantities),
        unit=unit, basis=basis, source=_mixture(quantities),
    )  # fmt: skip


def _mixture(quantities: list[Quantity]) -> str:
    """ "32 % measured, 68 % modelled" for parts that rest on different things; nothing for parts of one basis."""
    shares: dict[str, float] = {}
    for q in quantities:
        shares[q.basis] = shares.get(q.basis, 0.0) + (q.value or 0.0)
    everything = sum(shares.values())
    if len(shares) < 2 or everything <= 0:
        return ""
    return ", ".join(f"{100 * shares[basis] / everything:.0f} % {basis}" for basis in sorted(shares))


def largest(quantities: list[Quantity], unit: str) -> Quantity:
    """Element-wise maximum, for figures that do not add up over stages (peak memory)."""
    if not quantities:
        return Quantity.unknown(unit)
    basis = weakest(*(q.basis for q in quantities))
    if basis == "unknown":
        return Quantity.unknown(unit, "a part is unknown")
    return Quantity(
        value=max(q.value or 0.0 for q in quantities),
        low=max(q.low or 0.0 for q in quantities),
        high=max(q.high or 0.0 for q in quantities),
        unit=unit, basis=basis,
    )  # fmt: skip
