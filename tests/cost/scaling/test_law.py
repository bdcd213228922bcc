"""The parametric law: closed forms against brute force, and the points that are published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost.scaling.law import CHINCHILLA, CHINCHILLA_PRINTED, ParametricLaw
from arriero.errors import ArrieroError

BUDGET = 5.76e23
laws = st.builds(
    ParametricLaw,
    E=st.floats(0, 3), A=st.floats(1, 2000), B=st.floats(1, 5000), alpha=st.floats(0.1, 1), beta=st.floats(0.1, 1),
)  # fmt: skip


def test_published_optima_of_chinchillas_budget() -> None:
    printed, corrected = CHINCHILLA_PRINTED.optimal(BUDGET), CHINCHILLA.optimal(BUDGET)
    assert printed.parameters == pytest.approx(32e9, rel=0.01) and printed.tokens == pytest.approx(
        2.98e12, rel=0.01
    )
    assert corrected.parameters == pytest.approx(72e9, rel=0.01) and corrected.tokens == pytest.approx(
        1.33e12, rel=0.01
    )
    assert corrected.tokens_per_parameter == pytest.approx(18, abs=0.5)
    assert CHINCHILLA.size_exponent == pytest.approx(0.5126, abs=1e-3)


@given(laws, st.floats(12, 26))
def test_the_optimum_is_the_lowest_point_of_its_budget(law: ParametricLaw, decades: float) -> None:
    flops = 10**decades
    best = law.optimal(flops)
    assert best.flops == pytest.approx(flops) and 6 * best.parameters * best.tokens == pytest.approx(flops)
    sizes = best.parameters * np.exp(np.linspace(-3, 3, 601))
    losses = law.loss(sizes, flops / 6 / sizes)
    assert best.loss is not None and best.loss <= losses.min() * (1 + 1e-12)
    assert law.optimal_tokens(best.parameters) == pytest.approx(best.tokens, rel=1e-6)


@given(laws, st.floats(1e3, 1e12), st.floats(1e3, 1e14))
def test_tokens_and_sizes_are_inverses_of_the_loss(law: ParametricLaw, n: float, d: float) -> None:
    loss = float(law.loss(n, d))
    if law.B * d**-law.beta > 1e-6 * loss:
        assert law.tokens_for(n, loss) == pytest.approx(d, rel=1e-3)
    if loss > law.E * (1 + 1e-9):
        assert law.smallest(loss) <= n * (1 + 1e-6)
        assert law.tokens_for(law.smallest(loss) * 0.9, loss) == math.inf


def test_reach_is_the_budget_whose_best_loss_it_is() -> None:
    for flops in (1e18, 1e21, 1e25):
        best = CHINCHILLA.optimal(flops)
        assert best.loss is not None
        again = CHINCHILLA.reach(best.loss)
        assert again.flops == pytest.approx(flops) and again.parameters == pytest.approx(best.parameters)


@pytest.mark.parametrize("figures", [(1, 0, 1, 0.3, 0.3), (1, 1, 1, -0.1, 0.3), (-1, 1, 1, 0.3, 0.3), (math.nan, 1, 1, 0.3, 0.3)])  # fmt: skip
def test_laws_that_are_none_are_refused(figures: tuple[float, ...]) -> None:
    with pytest.raises(ArrieroError, match="scaling law needs"):
        ParametricLaw(*figures)


def test_budgets_and_losses_out_of_reach_are_refused() -> None:
    for flops in (0, -1, math.inf, math.nan):
        with pytest.raises(ArrieroError, match="compute budget"):
            CHINCHILLA.optimal(flops)
    with pytest.raises(ArrieroError, match=r"floor is E = 1\.817"):
        CHINCHILLA.reach(1.8)
