"""The fit: known laws come back from synthetic runs, with and without noise, outliers and Chinchilla's own design."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.cost.scaling.fit import FEWEST, Fit, fit_law
from arriero.cost.scaling.law import CHINCHILLA, CHINCHILLA_PRINTED, ParametricLaw
from arriero.cost.scaling.runs import Runs
from arriero.errors import ArrieroError


def chinchillas_runs(noise: float, seed: int, n: int = 240, law: ParametricLaw = CHINCHILLA) -> Runs:
    """Sizes and budgets as wide as those of the paper's figure 4."""
    random = np.random.default_rng(seed)
    parameters = np.exp(random.uniform(np.log(5.7e7), np.log(1.6e10), n))
    flops = np.exp(random.uniform(np.log(6e18), np.log(3e21), n))
    tokens = flops / 6 / parameters
    return Runs(parameters, tokens, law.loss(parameters, tokens) * np.exp(noise * random.standard_normal(n)))


def ladder(law: ParametricLaw, noise: float = 0.0, seed: int = 0) -> Runs:
    sizes, tokens = (axis.ravel() for axis in np.meshgrid([6e4, 1.6e5, 4.3e5, 1.1e6], [1e6, 2e6, 4e6]))
    off = noise * np.random.default_rng(seed).standard_normal(len(sizes))
    return Runs(sizes, tokens, law.loss(sizes, tokens) * np.exp(off))


@settings(max_examples=30, deadline=None)
@given(
    E=st.floats(0.5, 2.5), alpha=st.floats(0.2, 0.6), beta=st.floats(0.2, 0.6),
    at_size=st.floats(0.3, 2), at_tokens=st.floats(0.3, 2),
)  # fmt: skip
def test_a_law_comes_back_from_its_own_losses(
    E: float, alpha: float, beta: float, at_size: float, at_tokens: float
) -> None:
    """The terms are told by their size at the middle of the ladder, so that each has a say."""
    law = ParametricLaw(E, at_size * (2.6e5) ** alpha, at_tokens * (2e6) ** beta, alpha, beta)
    found = fit_law(ladder(law))
    assert found.scatter < 1e-5
    for n, d in ((2.4e6, 4e6), (6e4, 1e7), (1e7, 1e7)):
        assert float(found.law.loss(n, d)) == pytest.approx(float(law.loss(n, d)), rel=2e-3)
    assert (found.law.alpha, found.law.beta) == pytest.approx((alpha, beta), rel=0.05)


@pytest.mark.parametrize("law", [CHINCHILLA, CHINCHILLA_PRINTED])
@pytest.mark.parametrize("seed", [0, 1])
def test_chinchillas_runs_with_noise_give_back_the_law_and_its_optimum(law: ParametricLaw, seed: int) -> None:
    found = fit_law(chinchillas_runs(0.005, seed, law=law)).law
    for key, off in (("E", 0.06), ("alpha", 0.04), ("beta", 0.04)):
        assert getattr(found, key) == pytest.approx(getattr(law, key), abs=off), key
    mine, true = found.optimal(5.76e23), law.optimal(5.76e23)
    assert mine.parameters == pytest.approx(true.parameters, rel=0.35)
    assert mine.loss == pytest.approx(true.loss, rel=0.01)


def test_the_fit_is_where_its_objective_is_lowest() -> None:
    runs = chinchillas_runs(0.01, 3)
    found = fit_law(runs)

    def objective(law: ParametricLaw) -> float:
        off = np.abs(np.log(law.loss(runs.parameters, runs.tokens) / runs.losses))
        return float(np.where(off <= 1e-3, off**2 / 2, 1e-3 * (off - 5e-4)).sum())

    assert objective(found.law) == pytest.approx(found.objective)
    assert found.objective <= objective(CHINCHILLA)
    random = np.random.default_rng(0)
    for _ in range(300):
        moved = {key: getattr(found.law, key) * np.exp(10 ** random.uniform(-5, -1) * random.standard_normal()) for key in ("E", "A", "B", "alpha", "beta")}  # fmt: skip
        assert objective(ParametricLaw(**moved)) >= found.objective * (1 - 1e-6)


def test_an_outlier_moves_the_fit_less_than_least_squares() -> None:
    law = ParametricLaw(1.5, 60, 300, 0.35, 0.4)
    runs = ladder(law, 0.001, 4)
    losses = runs.losses.copy()
    losses[5] *= 1.3
    spoilt = Runs(runs.parameters, runs.tokens, losses)
    true = float(law.loss(2.4e6, 4e6))

    def off(found: Fit) -> float:
        return abs(float(found.law.loss(2.4e6, 4e6)) / true - 1)

    assert off(fit_law(spoilt)) < 0.01 < off(fit_law(spoilt, delta=10.0))


def test_the_unit_of_size_and_tokens_does_not_matter() -> None:
    law = ParametricLaw(1.5, 60, 300, 0.35, 0.4)
    runs = ladder(law, 0.003, 5)
    one, million = fit_law(runs), fit_law(Runs(runs.parameters / 1e6, runs.tokens / 1e6, runs.losses))
    assert one.law.alpha == pytest.approx(million.law.alpha, rel=1e-4)
    assert one.law.loss(2.4e6, 4e6) == pytest.approx(million.law.loss(2.4, 4), rel=1e-6)


def test_runs_that_tell_no_law_are_refused() -> None:
    runs = ladder(CHINCHILLA)
    with pytest.raises(ArrieroError, match=f"at least {FEWEST}"):
        fit_law(runs.only(slice(0, 5)))
    with pytest.raises(ArrieroError, match="2 different model sizes"):
        fit_law(runs.only(runs.parameters < 2e5))
    with pytest.raises(ArrieroError, match="1 different token counts"):
        fit_law(Runs(np.geomspace(1e5, 1e6, 8), np.full(8, 1e6), np.linspace(4, 3, 8)))
    with pytest.raises(ArrieroError, match="larger models did not lower the loss"):
        fit_law(
            Runs(runs.parameters, runs.tokens, 3 + 0.02 * np.log(runs.parameters) + 100 / runs.tokens**0.5)
        )
    with pytest.raises(ArrieroError, match="delta"):
        fit_law(runs, delta=0.0)
