"""Over-training: worked examples, brute force, and how it moves with what it is given."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.cost.scaling.inference_aware import inference_weight, overtrain
from arriero.cost.scaling.law import CHINCHILLA, CHINCHILLA_PRINTED, Allocation, ParametricLaw
from arriero.errors import ArrieroError


def of_size(parameters: float, law: ParametricLaw = CHINCHILLA) -> Allocation:
    return law.allocation(parameters, law.optimal_tokens(parameters))


@pytest.mark.parametrize(
    ("size", "inference", "parameters", "tokens", "ratio"),
    [
        (7e9, 1e12, "3.4", "0.39", "0.73"),
        (7e9, 1e13, "2.1", "1.35", "0.40"),
        (70e9, 1e12, "55.0", "1.68", "0.97"),
    ],
)
def test_worked_examples(size: float, inference: float, parameters: str, tokens: str, ratio: str) -> None:
    found = overtrain(CHINCHILLA, of_size(size), inference)
    assert f"{found.best.model.parameters / 1e9:.1f}" == parameters
    assert f"{found.best.model.tokens / 1e12:.2f}" == tokens
    assert f"{found.ratio:.2f}" == ratio
    assert found.best.model.loss == pytest.approx(found.reference.model.loss)
    assert found.reference.model.tokens == pytest.approx(0.144e12 if size == 7e9 else 1.29e12, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([CHINCHILLA, CHINCHILLA_PRINTED, ParametricLaw(0.0, 30, 300, 0.12, 0.9)]),
    st.floats(6, 12), st.floats(6, 15), st.floats(0.1, 50),
)  # fmt: skip
def test_nothing_of_equal_loss_is_cheaper(
    law: ParametricLaw, size: float, tokens: float, weight: float
) -> None:
    reference, used = of_size(10**size, law), 10**tokens
    found = overtrain(law, reference, used, weight)
    assert reference.loss is not None and found.ratio <= 1 + 1e-9
    smallest = law.smallest(reference.loss)
    sizes = smallest * np.exp(np.linspace(1e-4, math.log(reference.parameters / smallest) + 1, 400))
    costs = [6 * n * law.tokens_for(n, reference.loss) + weight * 2 * n * used for n in sizes]
    assert found.best.total <= min(costs) * (1 + 1e-6)


def test_without_inference_the_optimum_stays_and_with_more_the_model_shrinks() -> None:
    reference = of_size(7e9)
    none = overtrain(CHINCHILLA, reference, 0.0)
    assert none.best.model.parameters == pytest.approx(7e9, rel=1e-4) and none.ratio == pytest.approx(1)
    sizes = [
        overtrain(CHINCHILLA, reference, used).best.model.parameters for used in (1e10, 1e11, 1e12, 1e13)
    ]
    assert sizes == sorted(sizes, reverse=True)
    dear = overtrain(CHINCHILLA, reference, 1e12, inference_weight(0.4, 0.04))
    same = overtrain(CHINCHILLA, reference, 1e13)
    assert dear.best.model.parameters == pytest.approx(same.best.model.parameters)
    assert dear.factor > 1


def test_a_reference_that_was_not_optimal_is_improved_on() -> None:
    large = CHINCHILLA.allocation(70e9, 0.3e12)
    found = overtrain(CHINCHILLA, large, 0.0)
    assert found.best.model.parameters < large.parameters and found.ratio < 1


def test_senseless_figures_are_refused() -> None:
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ArrieroError, match="inference tokens"):
            overtrain(CHINCHILLA, of_size(1e9), wrong)
    with pytest.raises(ArrieroError, match="weight of inference"):
        overtrain(CHINCHILLA, of_size(1e9), 1e9, 0.0)
    with pytest.raises(ArrieroError, match="inference utilisation"):
        inference_weight(0.4, 0.0)
    with pytest.raises(ArrieroError, match="training utilisation"):
        inference_weight(1.4, 0.1)
