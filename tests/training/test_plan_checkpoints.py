"""What a plan says that checkpoints cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from arriero.cost.device import Rate
from arriero.training.plan import _checkpoint_seconds
from arriero.training.settings import TrainSettings

GB = 1e9


def seconds(steps: int, rates: dict[str, float], **settings: Any) -> float:
    found = {
        f"pretrain.checkpoint_{name}": Rate(per_s=rate, spread=0.5, unit="B") for name, rate in rates.items()
    }
    device: Any = SimpleNamespace(threads=2, logical_cores=2, usable_cores=2, rate=found.get)
    given = TrainSettings(checkpoint_every="10 steps", threads=2, precision="fp32", **settings)
    return _checkpoint_seconds(given, 6 * GB, 0.0, steps, device)


def test_those_in_the_background_cost_the_wait_and_a_share_of_a_core() -> None:
    rates = {"bytes": 0.5 * GB, "blocked_bytes": 2 * GB}  # 12 s in all, 3 s of them waiting
    last = 12 * (1 + 1 / 3)
    assert seconds(9, rates) == pytest.approx(last)
    assert seconds(55, rates) == pytest.approx(5 * (3 + 9 / 2) + last)
    assert seconds(55, rates, async_checkpoints=False) == pytest.approx(5 * 12 + last)


def test_what_was_not_measured_costs_nothing_and_an_older_profile_has_one_rate() -> None:
    assert seconds(55, {}) == 0
    assert seconds(55, {"bytes": 0.5 * GB}) == pytest.approx(5 * 12 + 16)
