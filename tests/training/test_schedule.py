from __future__ import annotations

import pytest

from arriero.training.schedule import learning_rate
from arriero.training.settings import TrainSettings


def rates(total: int, **settings: object) -> list[float]:
    chosen = TrainSettings.model_validate({"learning_rate": 1.0, **settings})
    return [learning_rate(chosen, step, total) for step in range(total)]


def test_warmup_rises_to_the_peak_without_a_step_at_zero() -> None:
    assert rates(20, warmup="4 steps")[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_falls_to_its_last_value(schedule: str) -> None:
    found = rates(50, schedule=schedule, warmup="10 %", min_lr_ratio=0.1)
    assert found[-1] == pytest.approx(0.1)
    assert found[5:] == sorted(found[5:], reverse=True)


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert rates(100, schedule="cosine", warmup="0", min_lr_ratio=0.0)[49] == pytest.approx(0.5)


def test_constant_stays() -> None:
    assert set(rates(10, schedule="constant", warmup="0")) == {1.0}
