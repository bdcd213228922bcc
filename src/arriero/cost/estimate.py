"""The sheet of a stage: what it takes in time, memory, arithmetic, energy, CO2 and money.

The predicted side and the measured side of a ledger line are both of this type.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from arriero.cost.quantity import Quantity, largest, total


class Estimate(BaseModel):
    """Cost of a stage. A stage's ``plan`` fills the first three; the walk prices the rest from them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: Quantity = Quantity.unknown("s")
    peak_memory: Quantity = Quantity.unknown("B")
    """Peak resident memory of the process while the stage runs, in bytes."""
    flops: Quantity = Quantity.unknown("FLOP")
    """Multiply-adds count two. Attention counts the causal half. Element-wise work is not counted."""
    energy: Quantity = Quantity.unknown("J")
    co2: Quantity = Quantity.unknown("g")
    money: Quantity = Quantity.unknown("USD")

    @classmethod
    def fields(cls) -> list[str]:
        return list(cls.model_fields)


def total_estimate(parts: list[Estimate]) -> Estimate:
    """Sum over stages that run one after the other; peak memory is the largest, not the sum."""
    money_unit = parts[0].money.unit if parts else "USD"
    return Estimate(
        seconds=total([p.seconds for p in parts], "s"),
        peak_memory=largest([p.peak_memory for p in parts], "B"),
        flops=total([p.flops for p in parts], "FLOP"),
        energy=total([p.energy for p in parts], "J"),
        co2=total([p.co2 for p in parts], "g"),
        money=total([p.money for p in parts], money_unit),
    )
