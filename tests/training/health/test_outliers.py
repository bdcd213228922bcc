from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.training.health.outliers import History, OutlierRule
from arriero.training.health.settings import HealthSettings

SETTINGS = HealthSettings(window=32, spike_steps=4, most_skips=6)


def rule(changes: dict[str, float] | None = None, steps: int = 32) -> OutlierRule:
    """One that has seen so many ordinary steps."""
    made = OutlierRule(SETTINGS.model_copy(update=changes or {}), History())
    draw = np.random.default_rng(0)
    for step in range(steps):
        assert made.judge(step + 1, 2 + 0.1 * draw.standard_normal(), 1.0).decision == "take"
    return made


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_skipped_from_the_first_step_on(value: float) -> None:
    assert rule(steps=0).judge(1, value, 1.0).decision == "skip"
    assert rule(steps=0).judge(1, 2.0, value).decision == "skip"


def test_an_outlier_is_skipped_and_not_remembered() -> None:
    made = rule()
    before = list(made.history.losses)
    verdict = made.judge(33, 4.0, 1.0)
    assert verdict.decision == "skip" and "the loss 4 is above" in verdict.why
    assert made.history.losses == before and made.history.bad_since == 33
    assert "gradient norm" in made.judge(34, 2.0, 30.0).why
    assert made.judge(35, 2.0, 2.9).decision == "take", "less than three times the mean does no harm"
    assert made.judge(36, 2.0, 1.0).decision == "take" and made.history.bad == 0


def test_low_values_are_never_outliers() -> None:
    assert rule().judge(33, 0.001, 1e-6).decision == "take"


def test_nothing_finite_is_an_outlier_before_half_a_window_is_known_or_with_the_rule_off() -> None:
    assert rule(steps=15).judge(16, 1e9, 1e9).decision == "take"
    assert rule({"outlier_sigma": 0}).judge(33, 1e9, 1e9).decision == "take"


def test_outliers_that_do_not_end_are_a_spike_and_then_the_end() -> None:
    made = rule()
    found = [made.judge(33 + i, 50.0, 1.0).decision for i in range(6)]
    assert found == ["skip", "skip", "skip", "roll back", "skip", "stop"]
    made = rule({"spike_steps": 0})
    assert [made.judge(33 + i, 50.0, 1.0).decision for i in range(6)] == ["skip"] * 5 + ["stop"]


def test_a_gradient_that_stays_large_is_the_runs_new_course() -> None:
    made = rule()
    assert [made.judge(33 + i, 2.0, 9.0).decision for i in range(6)] == ["skip"] * 3 + ["take"] * 3
    assert made.history.norms == [9.0] * 3


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3), drift=st.floats(-1e-2, 1e-3))
def test_ordinary_noise_is_taken(seed: int, scale: float, drift: float) -> None:
    """Gaussian noise of six deviations comes once in 10^9; drift of a falling or slightly rising loss is no outlier."""
    draw = np.random.default_rng(seed)
    made = OutlierRule(HealthSettings(), History())
    for step in range(300):
        loss = scale * (5 + 0.05 * draw.standard_normal() + drift * step)
        assert made.judge(step + 1, loss, scale * (1 + 0.1 * draw.standard_normal())).decision == "take"


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=80))
def test_the_history_stays_finite_and_short(losses: list[float]) -> None:
    made = OutlierRule(SETTINGS, History())
    for step, loss in enumerate(losses):
        made.judge(step + 1, loss, 1.0)
    assert len(made.history.losses) <= 32 and all(map(math.isfinite, made.history.losses))
