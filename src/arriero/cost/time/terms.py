"""The parts that a step's seconds are the sum of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

Seconds: TypeAlias = "float | np.ndarray"
"""Seconds, or an array of them, one for each plan; NaN where something needed is unknown."""


@dataclass(frozen=True)
class TimeTerms:
    """Seconds of one optimizer step on the slowest device.

    Attributes:
        products: matrix products with the blocks' weights. attention: scores and the mixing of values.
        elementwise: work bound by memory (norms, activations, residuals, the loss). head: the vocabulary's products.
        optimizer: the update. communication: what other work does not hide. bubble: waiting in the pipeline.
        host: launching, and what a step takes whatever its size.
    """

    products: Seconds = 0.0
    attention: Seconds = 0.0
    elementwise: Seconds = 0.0
    head: Seconds = 0.0
    optimizer: Seconds = 0.0
    communication: Seconds = 0.0
    bubble: Seconds = 0.0
    host: Seconds = 0.0

    @property
    def total(self) -> Seconds:
        """All of it."""
        return sum(self.named().values())

    def named(self) -> dict[str, Seconds]:
        """The terms by name, in the order of the class."""
        return {part.name: getattr(self, part.name) for part in fields(self)}
