"""History: the figures that the paper states in its own words."""

from __future__ import annotations

import pytest

from arriero.cost.scaling import CHINCHILLA, kaplan
from arriero.errors import ArrieroError


def test_laws_at_their_own_constants() -> None:
    assert kaplan.loss_of_size(8.8e13) == kaplan.loss_of_data(5.4e13) == 1
    assert kaplan.loss_of_compute(3.1e8 * kaplan.PF_DAY) == pytest.approx(1)
    # ten times the size multiplies the loss by 10^-0.076
    assert kaplan.loss_of_size(1e9) / kaplan.loss_of_size(1e10) == pytest.approx(10**0.076)


def test_one_petaflop_day_and_the_exponents() -> None:
    one, ten = kaplan.optimal(kaplan.PF_DAY), kaplan.optimal(10 * kaplan.PF_DAY)
    assert one.parameters == pytest.approx(1.3e9) and one.tokens == pytest.approx(2e10)
    assert ten.parameters / one.parameters == pytest.approx(10**0.73)
    assert ten.tokens / one.tokens == pytest.approx(10**0.27)


def test_it_asks_for_larger_models_on_less_data_than_chinchilla() -> None:
    old, new = kaplan.optimal(1e24), CHINCHILLA.optimal(1e24)
    assert old.parameters > 5 * new.parameters and old.tokens < new.tokens / 5
    with pytest.raises(ArrieroError, match="positive number of FLOP"):
        kaplan.optimal(0)
