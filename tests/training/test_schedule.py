from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.training.schedule import learning_rate, learning_rate_within, warmup_steps
from arriero.training.settings import TrainSettings

SCHEDULES = ("cosine", "linear", "constant", "inverse_sqrt", "wsd")
TOKENS_A_STEP = 100


def rates(total: int, **settings: object) -> list[float]:
    chosen = TrainSettings.model_validate({"learning_rate": 1.0, **settings})
    warmup = warmup_steps(chosen, total, lambda tokens: math.ceil(tokens / TOKENS_A_STEP))
    return [learning_rate(chosen, step, total, warmup) for step in range(total)]


def test_warmup_rises_to_the_peak_without_a_step_at_zero() -> None:
    assert rates(20, warmup="4 steps")[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates(20, warmup="350 tokens") == rates(20, warmup="4 steps") == rates(20, warmup="20 %")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_falls_to_its_last_value(schedule: str) -> None:
    found = rates(50, schedule=schedule, warmup="10 %", min_lr_ratio=0.1)
    assert found[-1] == pytest.approx(0.1)
    assert found[5:] == sorted(found[5:], reverse=True)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert rates(100, schedule="cosine", warmup="0", min_lr_ratio=0.0)[49] == pytest.approx(0.5)


def test_constant_stays() -> None:
    assert set(rates(10, schedule="constant", warmup="0")) == {1.0}


@pytest.mark.parametrize(("form", "half"), [("linear", 0.5), ("1-sqrt", 1 - math.sqrt(0.5))])
def test_wsd_holds_and_then_falls(form: str, half: float) -> None:
    found = rates(100, schedule="wsd", warmup="10 %", decay_share=0.2, decay_form=form, min_lr_ratio=0.0)
    assert found[9:80] == [1.0] * 71
    assert found[89] == pytest.approx(half)
    assert found[-1] == 0.0 and found[79:] == sorted(found[79:], reverse=True)


def test_inverse_sqrt_is_the_original_transformers() -> None:
    """Equation 3 of arXiv 1706.03762, for d_model 512 and 4000 steps of warm-up."""
    d_model, warmup, total = 512, 400, 2000
    found = rates(
        total, schedule="inverse_sqrt", warmup=f"{warmup} steps", learning_rate=(d_model * warmup) ** -0.5
    )
    paper = [d_model**-0.5 * min(n**-0.5, n * warmup**-1.5) for n in range(1, total + 1)]
    assert found == pytest.approx(paper)


AnyCourse = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(SCHEDULES),
        "warmup": st.sampled_from(["0", "1 %", "10 %", "40 %", "7 steps", "1e3 tokens", "90 steps"]),
        "min_lr_ratio": st.sampled_from([0.0, 0.1, 1.0]),
    }
)


@checks(deadline=None, max_examples=40)
@given(AnyCourse, st.integers(1, 400), st.floats(0.05, 0.6), st.sampled_from(["linear", "1-sqrt"]))
def test_every_course_is_bounded_rises_once_and_never_again(
    course: dict[str, Any], total: int, share: float, form: str
) -> None:
    wsd = {"decay_share": share, "decay_form": form} if course["schedule"] == "wsd" else {}
    found = rates(total, **course, **wsd)
    assert all(0 <= rate <= 1 for rate in found)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert all(
        after <= before * (1 + 1e-12) for before, after in zip(found[peak:], found[peak + 1 :], strict=False)
    )
    if peak < total - 1 and course["schedule"] in ("cosine", "linear", "wsd"):
        assert found[-1] == pytest.approx(course["min_lr_ratio"], abs=1e-9)


@checks(deadline=None, max_examples=40)
@given(AnyCourse, st.floats(0.1, 0.6))
def test_no_course_jumps(course: dict[str, Any], share: float) -> None:
    """Over 20,000 steps no two neighbours differ by more than the steepest form allows."""
    total = 20_000
    wsd = {"decay_share": share} if course["schedule"] == "wsd" else {}
    found = rates(total, **course, **wsd)
    warmup = max(1, found.index(max(found)))
    steepest = max(1 / warmup, math.sqrt(1 / (0.1 * total)))  # of 1 - sqrt at its beginning
    falls_from = (
        2 if course["schedule"] == "inverse_sqrt" and warmup == 1 else 0
    )  # 1/sqrt(n) itself is steep at first
    jumps = [abs(a - b) for a, b in zip(found[falls_from:], found[falls_from + 1 :], strict=False)]
    assert max(jumps) <= (1 if falls_from else steepest * 1.01)


@checks(deadline=None, max_examples=40)
@given(AnyCourse, st.floats(0.05, 0.6))
def test_a_budget_of_seconds_has_the_same_course(course: dict[str, Any], share: float) -> None:
    """Steps of equal cost and length."""
    total = 400
    wsd = {"decay_share": share} if course["schedule"] == "wsd" else {}
    chosen = TrainSettings.model_validate({"learning_rate": 1.0, **course, **wsd})
    counted = rates(total, **course, **wsd)
    for step in range(total):
        done = (step + 1) / total
        within = learning_rate_within(chosen, step, done, TOKENS_A_STEP * (step + 1.0))
        close = 0.12 if course["schedule"] == "wsd" else 0.02  # where 1 - sqrt begins, half a step is much
        assert within == pytest.approx(counted[step], abs=close), step


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="decay_share is for schedule wsd, not cosine"):
        TrainSettings(decay_share=0.5)
    with pytest.raises(ValidationError, match="more than the whole run"):
        TrainSettings(schedule="wsd", warmup="50 %", decay_share=0.6)
    with pytest.raises(ValidationError, match="beta2 is AdamW's"):
        TrainSettings(optimizer="adafactor", beta2=0.9)
