from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.training.batch_sizes import BatchSizes, course_of, grown
from arriero.training.settings import TrainSettings


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(
        {"batch_size": 64, "batch_warmup": "25 %", "batch_size_start": 8, **changes}
    )


@checks(deadline=None)
@given(st.integers(1, 40), st.integers(0, 60), st.floats(0, 5_000), st.integers(0, 4_000))
def test_positions_steps_and_sizes_agree(first: int, more: int, ramp: float, samples: int) -> None:
    sizes = BatchSizes(first, first + more, ramp)
    steps = sizes.steps(samples)
    position = 0
    for step in range(steps):
        assert position == sizes.position(step) < samples
        size = sizes.size(position)
        assert first <= size <= first + more and (size % first == 0 or size == first + more)
        position += size
    assert position == sizes.position(steps) >= samples


@given(st.integers(1, 50), st.integers(0, 500), st.floats(0, 1), st.floats(0, 1))
def test_a_batch_only_grows(first: int, more: int, early: float, late: float) -> None:
    early, late = sorted((early, late))
    assert grown(first, first + more, early) <= grown(first, first + more, late)
    assert grown(first, first + more, 0) == first or not more
    assert grown(first, first + more, 1) == first + more


@checks(deadline=None)
@given(
    st.sampled_from(["1 epochs", "2.5 epochs", "3e5 tokens", "40 steps", "1 steps"]),
    st.sampled_from(["0", "5 %", "100 %", "1e4 tokens", "1e9 tokens"]),
    st.sampled_from([1, 8, 64]),
    st.integers(1, 3000),
)
def test_a_run_has_the_samples_that_its_steps_take(
    duration: str, growth: str, first: int, n_samples: int
) -> None:
    start = first if growth != "0" else 0
    course = course_of(
        settings(duration=duration, batch_warmup=growth, batch_size_start=start), n_samples, 100.0
    )
    assert course.sizes.steps(course.samples) == course.steps
    amount, unit = duration.split()
    if unit == "steps":
        assert course.steps == int(amount) and course.samples == course.sizes.position(course.steps)
    elif unit == "epochs":
        assert course.samples == max(1, round(float(amount) * n_samples))
    else:
        assert 0 <= course.samples * 100 - 3e5 < 64 * 100, "whole batches, and no more than need be"


def test_the_growth_takes_the_share_that_was_asked_for() -> None:
    course = course_of(settings(duration="400 steps"), 10**6, 100.0)
    full = next(s for s in range(400) if course.sizes.size(course.sizes.position(s)) == 64)
    assert course.sizes.position(full) / course.samples == pytest.approx(0.25, abs=0.01)
    tokens = course_of(settings(batch_warmup="1e5 tokens"), 10**5, 100.0)
    assert tokens.sizes.size(999) < 64 == tokens.sizes.size(1000)
    assert tokens.sizes.size(0) == 8 and tokens.sizes.size(500) == 32


def test_without_growth_nothing_has_changed() -> None:
    plain = TrainSettings(batch_size=16, duration="1000 tokens")
    assert course_of(plain, 40, 24.0).samples == 48
    assert course_of(plain.model_copy(update={"duration": "1 epochs"}), 40, 24.0).steps == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_warmup": "100 steps"}, "steps depend on the batch"),
        ({"batch_warmup": "0"}, "give batch_warmup too"),
        ({"batch_size_start": 65}, "batch_size_start 65 is more than batch_size 64"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changes)
