from __future__ import annotations

import numpy as np
import pytest

from arriero.errors import ArrieroError
from arriero.evaluation.bootstrap import (
    Resampling,
    mean_difference_interval,
    mean_interval,
    ratio_difference_interval,
    ratio_interval,
)

HOW = Resampling(samples=4000, confidence=0.95, seed=3)


def test_mean_interval_is_that_of_the_normal_theory() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_interval(values, HOW)
    error = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean()) and found.n == 400
    assert found.low == pytest.approx(values.mean() - error, abs=0.03)
    assert found.high == pytest.approx(values.mean() + error, abs=0.03)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_intervals_cover_the_truth_as_often_as_they_say(confidence: float) -> None:
    rng = np.random.default_rng(1)
    how = Resampling(samples=400, confidence=confidence, seed=0)
    hits = 0
    for _ in range(300):
        found = mean_interval(rng.exponential(1.0, 60), how)
        hits += found.low <= 1.0 <= found.high
    assert hits / 300 == pytest.approx(confidence, abs=0.08)


def test_ratio_of_sums_weighs_items_by_their_denominator() -> None:
    assert ratio_interval([1, 99], [1, 9], HOW).value == 10.0
    assert ratio_interval([2, 4, 6], [1, 2, 3], HOW) == ratio_interval([2, 4, 6], [1, 2, 3], HOW)
    flat = ratio_interval([2, 4, 6], [1, 2, 3], HOW)
    assert flat.low == flat.value == flat.high == 2.0


def test_paired_difference_is_far_narrower_than_the_items_spread() -> None:
    rng = np.random.default_rng(4)
    hardness = rng.normal(100, 30, 200)
    a, b = hardness + rng.normal(0, 0.1, 200), hardness + 0.5
    found = mean_difference_interval(a, b, HOW)
    assert found.high < 0 and found.high - found.low < 0.1
    assert mean_interval(a, HOW).high - mean_interval(a, HOW).low > 5


def test_a_model_against_itself_differs_by_nothing() -> None:
    bits, n_bytes = np.arange(1.0, 30), np.arange(2.0, 31)
    found = ratio_difference_interval((bits, n_bytes), (bits, n_bytes), HOW)
    assert (found.low, found.value, found.high) == (0.0, 0.0, 0.0)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert mean_interval(values, HOW) == mean_interval(values, HOW)
    assert mean_interval(values, HOW).low != mean_interval(values, Resampling(4000, 0.95, 4)).low


def test_one_item_gives_no_interval_and_none_is_an_error() -> None:
    assert mean_interval([3.0], HOW).low is None
    with pytest.raises(ArrieroError, match="no held-out item"):
        mean_interval([], HOW)
    with pytest.raises(ArrieroError, match="the same items"):
        mean_difference_interval([1.0], [1.0, 2.0], HOW)
