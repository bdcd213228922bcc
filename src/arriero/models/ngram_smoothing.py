"""Estimators of n-gram models: what each takes from the counts, and what it leaves to the order below.

Every one of them is ``P(w|h) = (c - D(c)) / (T + E) + (sum of D(c) + E) / (T + E) * P(w|h')`` with ``c`` the count of
``hw``, ``T`` the sum of the counts after ``h``, a discount ``D`` and pseudo-counts ``E`` that go to the order below;
so probabilities sum to 1 by their form. Sources: Chen and Goodman (1998), "An Empirical Study of Smoothing
Techniques for Language Modeling", sections 2 and 3; for ``additive`` over orders MacKay and Peto (1995).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError, did_you_mean

Floats = NDArray[np.float64]
Discounts = tuple[float, float, float]
FALLBACK_DISCOUNTS: Discounts = (0.5, 1.0, 1.5)
"""Used for an order whose counts of counts give no discounts, as KenLM does with --discount_fallback."""
DEFAULT = "modified_kneser_ney"


@dataclass(frozen=True)
class Smoothing:
    """One estimator.

    ``continuation``: lower orders count distinct tokens before an n-gram (Kneser and Ney) instead of occurrences.
    ``discounts``: counts of counts (n1, n2, n3, n4) -> (D1, D2, D3+). ``extra``: (T, distinct continuations, weight,
    vocabulary) -> E; None for 0. ``weight``: the default of its one parameter, None where it has none.
    """

    continuation: bool
    discounts: Callable[[Sequence[int]], Discounts]
    extra: Callable[[Floats, Floats, float, int], Floats] | None = None
    weight: float | None = None


def modified_discounts(n: Sequence[int]) -> Discounts:
    """Chen and Goodman's equation 26, from ``n_k``, the number of n-grams that have count k, for k = 1 … 4.

    ``Y = n1 / (n1 + 2 n2)``, ``Dk = k - (k + 1) Y n_{k+1} / n_k``. Where a Dk cannot be had or leaves (0, k], the
    order gets :data:`FALLBACK_DISCOUNTS`.
    """
    n1, n2, n3, n4 = n
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    if any(not 0 < d <= k for k, d in enumerate(found, start=1)):
        return FALLBACK_DISCOUNTS
    return found


def one_discount(n: Sequence[int]) -> Discounts:
    """``D = n1 / (n1 + 2 n2)`` for every count (Ney, Essen and Kneser 1994); 1/2 where it cannot be had."""
    d = n[0] / (n[0] + 2 * n[1]) if n[0] and n[1] else 0.5
    return d, d, d


def _nothing(n: Sequence[int]) -> Discounts:
    return 0.0, 0.0, 0.0


SMOOTHING = {
    "modified_kneser_ney": Smoothing(True, modified_discounts),
    "kneser_ney": Smoothing(True, one_discount),
    "absolute": Smoothing(False, one_discount),
    "witten_bell": Smoothing(False, _nothing, lambda totals, types, weight, v: types),
    "jelinek_mercer": Smoothing(
        False, _nothing, lambda totals, types, weight, v: totals * weight / (1 - weight), 0.4
    ),
    "additive": Smoothing(
        False, _nothing, lambda totals, types, weight, v: np.full(totals.shape, weight * v), 0.01
    ),
    "mle": Smoothing(False, _nothing),
}
"""By name. The weight of ``jelinek_mercer`` is the share of the order below (0 to 1, both excluded); that of
``additive`` is k, with the order below in place of the uniform distribution: add-k itself at order 1. ``mle`` gives
what it has not seen after a context that it has seen the probability 0."""


def get_smoothing(name: str, weight: float | None) -> tuple[Smoothing, float]:
    """The estimator and its weight.

    Raises:
        ArrieroError: there is no such estimator, or it has no such weight.
    """
    if name not in SMOOTHING:
        raise ArrieroError(f"unknown smoothing '{name}'{did_you_mean(name, SMOOTHING)}")
    smoothing = SMOOTHING[name]
    if weight is None:
        return smoothing, smoothing.weight or 0.0
    if smoothing.weight is None:
        having = ", ".join(key for key, other in SMOOTHING.items() if other.weight is not None)
        raise ArrieroError(f"smoothing '{name}' has no weight; these have one: {having}")
    if not weight > 0 or (name == "jelinek_mercer" and weight >= 1):
        raise ArrieroError(
            f"the weight {weight:g} of smoothing '{name}' should be above 0"
            + (" and below 1" if name == "jelinek_mercer" else "")
        )
    return smoothing, weight
