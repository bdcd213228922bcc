"""The two-step law of benchmarks, and Llama 3's own point."""

from __future__ import annotations

import numpy as np
import pytest

from arriero.cost.scaling.downstream import LLAMA3, LLAMA3_ROUNDED, Benchmark, fit_benchmark, predict_score
from arriero.errors import ArrieroError

TRUE = Benchmark(30.0, 0.07, 0.25, 1.0, 6.0, 0.9)
FLOPS = np.geomspace(1e18, 1e22, 10)
Rows = list[tuple[float, float]]


def rows(noise: float = 0.0, seed: int = 0) -> tuple[Rows, Rows]:
    """A ladder, and its scores with those of four larger models of unknown compute."""
    random = np.random.default_rng(seed)
    nll = TRUE.nll(FLOPS) * np.exp(noise * random.standard_normal(10))
    every = np.append(nll, [0.8, 0.7, 0.6, 0.5])
    accuracy = np.clip(TRUE.accuracy_at(every) + noise * random.standard_normal(14), 0, 1)
    return list(zip(FLOPS.tolist(), nll.tolist(), strict=True)), list(
        zip(every.tolist(), accuracy.tolist(), strict=True)
    )


def test_rounded_exponents_miss_llama_3s_own_point() -> None:
    assert LLAMA3_ROUNDED.tokens(3.8e25) == pytest.approx(10.5e12, rel=0.01)
    assert LLAMA3.exponent == pytest.approx(0.537, abs=1e-3)
    assert LLAMA3.tokens(3.8e25) == pytest.approx(16.55e12)
    assert LLAMA3.parameters(3.8e25) == pytest.approx(402e9, rel=0.06)


def test_both_steps_come_back() -> None:
    found = fit_benchmark(*rows(), chance=0.25)
    assert vars(found) == pytest.approx(vars(TRUE), rel=1e-4)
    assert float(found.accuracy(1e25)) == pytest.approx(float(TRUE.accuracy(1e25)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_stays_within_the_interval(seed: int) -> None:
    made = predict_score(*rows(0.01, seed), 1e23, chance=0.25, draws=60, confidence=0.98)
    assert made.low - 0.01 <= float(TRUE.accuracy(1e23)) <= made.high + 0.01
    assert made.low <= made.accuracy <= made.high and made.decades == pytest.approx(1)
    assert made == predict_score(*rows(0.01, seed), 1e23, chance=0.25, draws=60, confidence=0.98)


def test_limits_are_chance_and_top() -> None:
    low, high = TRUE.accuracy_at(np.array([1e3, -1e3]))
    assert (low, high) == (0.25, 1.0)


def test_far_scores_are_refused_unless_asked_for() -> None:
    with pytest.raises(ArrieroError, match=r"3\.0 decades beyond"):
        predict_score(*rows(), 1e25, chance=0.25)
    made = predict_score(*rows(), 1e25, chance=0.25, draws=10, far=True)
    assert "3.0 decades" in made.notes[0]
    below = predict_score(*rows(), 9e23, chance=0.25, draws=10)
    assert not below.notes
    ladder, scored = rows()
    assert (
        "sigmoid is extrapolated" in predict_score(ladder, scored[:10], 9e23, chance=0.25, draws=10).notes[0]
    )


def test_rows_that_tell_no_law_are_refused() -> None:
    ladder, scored = rows()
    with pytest.raises(ArrieroError, match="at least 3"):
        fit_benchmark(ladder[:2], scored)
    with pytest.raises(ArrieroError, match="at least 3"):
        fit_benchmark(ladder, scored[:1] * 5)
    with pytest.raises(ArrieroError, match="chance < top"):
        fit_benchmark(ladder, scored, chance=0.5, top=0.5)
    with pytest.raises(ArrieroError, match="does not fall with compute"):
        fit_benchmark([(c, -0.5 + c**0.02) for c, _ in ladder], scored)
    with pytest.raises(ArrieroError, match="between 0 and 1"):
        fit_benchmark(ladder, [(nll, 70.0) for nll, _ in scored])
