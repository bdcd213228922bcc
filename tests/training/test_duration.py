from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.training.duration import Duration, Interval, Warmup
from arriero.training.settings import TrainSettings


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("2e6 tokens", 2e6, "tokens"), ("3 epochs", 3, "epochs"), ("1.5epoch", 1.5, "epochs"),
        ("500 steps", 500, "steps"), ("1_000 Steps", 1000, "steps"), ("2,000,000 tokens", 2e6, "tokens"),
        (".5 epochs", 0.5, "epochs"),
    ],
)  # fmt: skip
def test_durations_are_read(text: str, amount: float, unit: str) -> None:
    assert Duration.parse(text) == Duration(amount, unit)


@pytest.mark.parametrize(
    "text", ["", "3", "epochs", "-1 epochs", "0 steps", "2.5 steps", "3 days", "1e999 tokens", "nan tokens"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"for example|whole number|more than zero"):
        Duration.parse(text)


@given(st.floats(min_value=0.01, max_value=1e12), st.sampled_from(["tokens", "epochs"]))
def test_the_normal_form_reads_as_itself(amount: float, unit: str) -> None:
    duration = Duration(amount, unit)
    assert Duration.parse(str(duration)) == duration


def test_samples_of_each_unit() -> None:
    assert Duration.parse("2 epochs").samples(10, 5.0, 4) == 20, "an epoch may end with a smaller batch"
    assert Duration.parse("3 steps").samples(10, 5.0, 4) == 12
    assert Duration.parse("100 tokens").samples(10, 5.0, 4) == 20
    assert Duration.parse("101 tokens").samples(10, 5.0, 4) == 24, "whole batches"


def test_intervals() -> None:
    assert Interval.parse("2 min") == Interval(120, "seconds")
    assert Interval.parse("10 steps").due(10, 0.0)
    assert not Interval.parse("10 steps").due(9, 1e9)
    assert Interval.parse("30 s").due(0, 30.0)
    with pytest.raises(ValueError, match="hours"):
        Interval.parse("2 hours")


def test_warmup() -> None:
    assert Warmup.parse("10%").steps(200) == 20
    assert Warmup.parse("300 steps").steps(200) == 200
    assert Warmup.parse("0").steps(200) == 0
    with pytest.raises(ValueError, match="at most"):
        Warmup.parse("120 %")


def test_settings_hold_the_normal_form_and_refuse_the_rest() -> None:
    assert (
        TrainSettings(duration="3 epoch").duration
        == TrainSettings(duration="3.0 epochs").duration
        == "3 epochs"
    )
    with pytest.raises(ValidationError, match="2e6 tokens"):
        TrainSettings(duration="soon")
    with pytest.raises(ValidationError, match="micro_batch_size 9 is more than batch_size 8"):
        TrainSettings(batch_size=8, micro_batch_size=9)
