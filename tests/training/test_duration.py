from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.errors import ArrieroError
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


@given(
    st.floats(min_value=1e-9, max_value=1e18, allow_nan=False),
    st.sampled_from(
        ["tokens", "epochs", "x parameters", "s", "h", "cpu-hours", "cpu-second", "x  Parameter"]
    ),
    st.sampled_from(["", " ", "  "]),
)
def test_any_number_of_any_unit_is_read_and_has_a_normal_form(amount: float, unit: str, gap: str) -> None:
    duration = Duration.parse(f"{amount!r}{gap}{unit}")
    assert Duration.parse(str(duration)) == duration
    times = {"h": 3600, "cpu-hours": 3600}.get(unit, 1)
    assert duration.amount == amount * times and duration.timed == (unit[0] in "shc")


@given(st.text(max_size=12))
def test_whatever_is_written_it_is_a_duration_or_one_clear_line(text: str) -> None:
    try:
        duration = Duration.parse(text)
    except ValueError as error:
        assert "\n" not in str(error) or "\n" in text
    else:
        assert duration.amount > 0 and Duration.parse(str(duration)) == duration


def test_a_multiple_of_the_parameters_is_so_many_tokens_for_each() -> None:
    settings = TrainSettings(duration="20x parameters")
    assert settings.duration == "20 x parameters"
    assert settings.for_model(1_000_000).duration == "20000000 tokens"
    assert TrainSettings(duration="3 epochs").for_model(5).duration == "3 epochs"
    with pytest.raises(ArrieroError, match="trained from random weights"):
        Duration.parse(settings.duration).samples(10, 5.0, 4)


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
    assert Warmup.parse("10%").share == 0.1
    assert Warmup.parse("300 steps") == Warmup(300, "steps")
    assert str(Warmup.parse("1e6 token")) == "1000000 tokens"
    assert Warmup.parse("0").amount == 0
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
