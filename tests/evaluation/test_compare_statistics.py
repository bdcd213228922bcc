"""Intervals over seeds, against tables and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.evaluation.compare_statistics import Exact, difference_ends, mean_ends, t_cumulative, t_quantile

TABLE = {
    (0.975, 1): 12.7062,
    (0.975, 2): 4.30265,
    (0.95, 5): 2.01505,
    (0.995, 4): 4.60409,
    (0.975, 30): 2.04227,
}


@pytest.mark.parametrize(("share", "degrees"), TABLE)
def test_quantiles_are_those_of_the_tables(share: float, degrees: float) -> None:
    assert t_quantile(share, degrees) == pytest.approx(TABLE[share, degrees], abs=2e-5)


def test_many_degrees_are_the_normal_distribution() -> None:
    assert t_quantile(0.975, math.inf) == pytest.approx(1.959964, abs=1e-5)


@given(st.floats(0.51, 0.999), st.floats(0.8, 200))
def test_quantile_undoes_the_cumulative(share: float, degrees: float) -> None:
    assert t_cumulative(t_quantile(share, degrees), degrees) == pytest.approx(share, abs=1e-9)


def test_mean_by_hand() -> None:
    low, high = mean_ends([1.0, 2.0, 3.0], 0.95)  # s = 1, so the reach is 4.3027 / sqrt(3)
    assert (low, high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert mean_ends([2.0], 0.95) is None


def test_welch_by_hand() -> None:
    """Variances 1 and 4 of three runs each: 2.94118 degrees of freedom, t = 3.2185."""
    low, high = difference_ends([1.0, 2.0, 3.0], [4.0, 6.0, 8.0], 0.95)
    assert (low, high) == pytest.approx((-8.15540, 0.15540), abs=1e-4)


def test_a_counted_model_has_no_spread_and_a_single_run_an_unknown_one() -> None:
    assert difference_ends([1.0, 2.0, 3.0], Exact(5.0), 0.95) == pytest.approx((-5.48414, -0.51586), abs=1e-4)
    assert difference_ends(Exact(1.0), Exact(3.0), 0.95) == (-2.0, -2.0)
    assert difference_ends([1.0], Exact(5.0), 0.95) is None
    assert difference_ends([1.0, 2.0], [3.0], 0.95) is None


def test_intervals_hold_what_they_promise() -> None:
    """Of 2,000 intervals from three normal draws each, about 95 % hold the true mean (Monte-Carlo error 0.5 %)."""
    draws = np.random.default_rng(0).normal(2.0, 0.1, (2000, 3))
    found = [mean_ends(list(row), 0.95) for row in draws]
    held = sum(ends is not None and ends[0] <= 2.0 <= ends[1] for ends in found)
    assert 0.935 < held / len(found) < 0.965
