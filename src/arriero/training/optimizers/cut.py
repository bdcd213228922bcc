"""What an optimizer that works on whole matrices asks of a parameter of which this process holds a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Cut(Protocol):
    """How one process' part of a parameter lies in the whole. All processes that hold parts call together.

    Attributes:
        shape: of the whole.
        places: for each dimension the indices int64 [n] that this process has of it.
    """

    shape: torch.Size
    places: list[Tensor]

    def whole(self, part: Tensor) -> Tensor:
        """The parts put together."""

    def mine(self, whole: Tensor) -> Tensor:
        """This process' part of a whole tensor."""

    def total(self, sums: Tensor) -> Tensor:
        """``sums`` added up, in place, over the processes that hold other parts."""


CutOf = Callable[[str], Cut | None]
"""The cut of a parameter by its name; None: this process has all of it."""


def uncut(name: str) -> None:
    """Every parameter is whole."""
