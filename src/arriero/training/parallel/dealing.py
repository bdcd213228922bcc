"""Which process takes which samples of a step; a pure function of the step's samples."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.training.objectives.base import Objective


class Filler(list[int]):
    """A micro-batch that counts nothing: it keeps the processes in step where one has fewer than the others."""


def deal(
    objective: Objective, indices: Sequence[int], size: int, share: int, of: int, least: int = 1
) -> list[list[int]]:
    """Share number ``share`` of ``of``, in micro-batches of at most ``size``; all shares have equally many of them.

    Neighbours in length go to different processes, so that all have about as much to do.

    Args:
        least: micro-batches at least.
    """
    ordered = sorted(indices, key=objective.length)
    shares = [objective.parts(part, size) if (part := ordered[number::of]) else [] for number in range(of)]
    most = max(least, *map(len, shares))
    return [*shares[share], *(Filler(ordered[:1]) for _ in range(most - len(shares[share])))]
