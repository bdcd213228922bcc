"""Descent from many starts: known minima, each start for itself."""

from __future__ import annotations

import numpy as np

from arriero.cost.scaling.minimise import Floats, Numbers, minimise


def rosenbrock(x: Floats, _: Numbers) -> tuple[Floats, Floats]:
    a, b = x[:, 0], x[:, 1]
    value = (1 - a) ** 2 + 100 * (b - a**2) ** 2
    return value, np.stack([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)], axis=1)


def test_rosenbrocks_valley_from_everywhere() -> None:
    starts = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    x, value = minimise(rosenbrock, starts, steps=1000)
    assert np.allclose(x, 1, atol=1e-4) and (value < 1e-8).all()
    alone, _ = minimise(rosenbrock, starts[7:8], steps=1000)
    assert np.allclose(alone, x[7:8], atol=1e-6), "a start does not depend on its neighbours"


def test_every_start_may_have_its_own_goal() -> None:
    goals = np.random.default_rng(1).normal(size=(20, 4))

    def bowl(x: Floats, rows: Numbers) -> tuple[Floats, Floats]:
        off = (x - goals[rows]) * np.array([1, 10, 100, 1000.0])
        return (off**2).sum(axis=1), 2 * off * np.array([1, 10, 100, 1000.0])

    x, value = minimise(bowl, np.zeros((20, 4)))
    assert np.allclose(x, goals, atol=1e-6) and (value < 1e-9).all()


def test_a_start_that_is_no_number_stays_and_harms_nobody() -> None:
    x, value = minimise(rosenbrock, np.array([[np.nan, 1.0], [0.0, 0.0]]), steps=1000)
    assert np.isnan(x[0, 0]) and not np.isfinite(value[0]) and np.allclose(x[1], 1, atol=1e-4)
