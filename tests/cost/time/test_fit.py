from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cost.time.examples import a_workload, ordinary

from arriero.cost.cut import Cut
from arriero.cost.hardware import find
from arriero.cost.time import Observation, fit
from arriero.cost.time.coefficients import NAMES, datasheet
from arriero.cost.time.fit import design, fit_factors, nonnegative_least_squares, predict
from arriero.cost.time.model import step_terms
from arriero.cost.time.rows import in_arrays
from arriero.errors import ArrieroError


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 12))
@settings(max_examples=80, deadline=None)
def test_least_squares_meets_the_conditions_of_an_optimum(seed: int, columns: int, rows: int) -> None:
    """Karush, Kuhn, Tucker: no slope downhill, and none at all where x is free."""
    draw = np.random.default_rng(seed)
    matrix, target = draw.normal(size=(rows, columns)), draw.normal(size=rows)
    x = nonnegative_least_squares(matrix, target)
    slope = matrix.T @ (matrix @ x - target)
    assert (x >= 0).all()
    assert (slope > -1e-7).all()
    assert np.abs(slope[x > 0]).max(initial=0.0) < 1e-7


def test_least_squares_is_the_ordinary_one_where_that_is_positive() -> None:
    draw = np.random.default_rng(0)
    matrix, truth = draw.random((20, 5)), draw.random(5) + 0.1
    assert nonnegative_least_squares(matrix, matrix @ truth) == pytest.approx(truth)


def runs(truth_scale: np.ndarray, noise: float = 0.0, count: int = 60) -> list[Observation]:
    """Steps of many layouts that a device with the scaled coefficients would take."""
    draw = np.random.default_rng(5)
    truth, found = ordinary().scaled(truth_scale), []
    works = [a_workload(layers, context) for layers in (4, 8, 16) for context in (128, 512, 2048)]
    for _ in range(count):
        cut = Cut(
            data=int(draw.choice([1, 4, 16])), tensor=int(draw.choice([1, 2, 4])), pipeline=int(draw.choice([1, 2])),
            zero=int(draw.choice([0, 1, 3])), sequence=bool(draw.random() < 0.5),
        )  # fmt: skip
        work = works[draw.integers(len(works))]
        batch, passes = int(draw.choice([1, 4, 16])), int(draw.choice([1, 4]))
        seconds = float(
            step_terms(
                work, cut, micro_batch=batch, accumulation=passes, recompute="none", coefficients=truth
            ).total
        )
        found.append(Observation(work, seconds * float(np.exp(noise * draw.normal())), cut, batch, passes))
    return found


def test_a_device_that_differs_from_the_prior_is_found_again() -> None:
    scale = np.array([1.4, 0.7, 1.8, 1.2, 1.0, 1.3, 0.8, 1.5, 1.0, 0.6, 1.2])
    rows = runs(scale)
    measured = np.array([row.seconds for row in rows])
    before = np.abs(predict(rows, ordinary()) / measured - 1).mean()
    after = np.abs(predict(rows, fit(rows, ordinary(), ridge=1e-6)) / measured - 1)
    assert before > 0.05
    assert after.max() < 0.01


def test_the_ridge_keeps_the_prior_where_the_rows_say_nothing() -> None:
    rows = [
        row
        for row in runs(np.full(len(NAMES), 1.5))
        if int(row.cut.tensor) == 1 and int(row.cut.devices) <= 2
    ]
    found = fit(rows, ordinary())
    assert found.of("all_reduce") == pytest.approx(ordinary().of("all_reduce"), rel=0.05)
    assert found.of("products") > 1.1 * ordinary().of("products")


def test_one_row_moves_the_prior_towards_it_and_not_past_it() -> None:
    row = runs(np.full(len(NAMES), 1.5), count=1)
    found = float(predict(row, fit(row, ordinary()))[0])
    assert float(predict(row, ordinary())[0]) < found < row[0].seconds * 1.001


def test_the_spread_is_that_of_rows_left_out() -> None:
    noisy = fit(runs(np.ones(len(NAMES)), noise=0.1), ordinary())
    exact = fit(runs(np.ones(len(NAMES))), ordinary())
    assert noisy.rows == 60
    assert noisy.spread == pytest.approx(0.1, rel=0.4)
    assert exact.spread is not None
    assert exact.spread < 1e-3
    assert fit(runs(np.ones(len(NAMES)), count=2), ordinary()).spread is None


def test_a_heavy_row_counts_for_more() -> None:
    rows = runs(np.full(len(NAMES), 1.5), count=1) + runs(np.full(len(NAMES), 0.7), count=1)
    heavy = fit([replace(rows[0], weight=100.0), rows[1]], ordinary())
    light = fit([rows[0], replace(rows[1], weight=100.0)], ordinary())
    assert predict(rows, heavy)[0] > predict(rows, light)[0]


def test_own_rows_sharpen_what_was_calibrated_before() -> None:
    calibrated = fit(runs(np.full(len(NAMES), 1.3), count=12), ordinary())
    own = runs(np.full(len(NAMES), 1.5), count=5)
    again = fit(own, calibrated, tier="own run")
    measured = np.array([row.seconds for row in own])
    assert (
        np.abs(predict(own, again) / measured - 1).mean()
        < np.abs(predict(own, calibrated) / measured - 1).mean()
    )
    assert again.tier == "own run"


def test_rows_in_any_order_have_the_slopes_they_have_alone() -> None:
    rows = runs(np.ones(len(NAMES)), count=20)
    together = design(in_arrays(rows), ordinary())
    for index, row in enumerate(rows):
        assert design(in_arrays([row]), ordinary())[0] == pytest.approx(together[index])


def test_some_of_the_rows_are_what_they_would_be_without_the_others() -> None:
    rows = runs(np.ones(len(NAMES)), count=20)
    some = in_arrays(rows).take(np.array([7, 3, 11]))
    assert predict(some, ordinary()) == pytest.approx(predict([rows[7], rows[3], rows[11]], ordinary()))
    assert some.seconds == pytest.approx([rows[i].seconds for i in (7, 3, 11)])


def test_several_devices_share_their_factors() -> None:
    scale = np.full(len(NAMES), 1.25)
    found = fit_factors(
        [(runs(scale), ordinary()), (runs(2 * scale), ordinary().scaled(np.full(len(NAMES), 2.0)))], 1e-6
    )
    assert found[:2] == pytest.approx(scale[:2], rel=0.02)


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(ArrieroError, match="at least one measured step"):
        fit([], ordinary())


def test_a_prior_that_lacks_what_the_rows_need_is_refused() -> None:
    with pytest.raises(ArrieroError, match=r"unknown: .*bf16 peak of V100"):
        fit(runs(np.ones(len(NAMES)), count=3), datasheet(find("V100")))
