"""The Pareto set: the plans that no other plan beats everywhere."""

from __future__ import annotations

import numpy as np


def pareto(costs: np.ndarray) -> np.ndarray:
    """Rows that no other row matches in every column and beats in one.

    Of rows that are equal in all columns the first stays. A row with an unknown figure (NaN) can be compared with
    nothing and is left out.

    Args:
        costs: [plans, goals], smaller is better.

    Returns:
        row numbers, int64, by the first column, then the second, and so on.
    """
    known = np.flatnonzero(~np.isnan(costs).any(axis=1))
    table = costs[known]
    # by the first column, ties by the next ones; lexsort is stable, so equal rows stay in their order
    order = np.lexsort(table.T[::-1])
    rest, table = known[order], table[order]
    kept = []
    while len(rest):
        # nothing later in this order can beat the first row that is left
        kept.append(rest[0])
        better = (table < table[0]).any(axis=1)
        rest, table = rest[better], table[better]
    return np.array(kept, dtype=np.int64)
