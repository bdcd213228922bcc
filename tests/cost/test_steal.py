"""Time that a host takes from a virtual machine: left out, and expected."""

from __future__ import annotations

import pytest

from arriero.cost import steal
from arriero.cost.steal import CalmClock, expected_slowdown


@pytest.mark.parametrize(
    ("walls", "stolen", "calm"),
    [
        ([100.0, 110.0], [7.0, 9.5], [7.5]),
        ([0.0, 0.02, 0.04, 0.06], [0.0, 0.015, 0.015, 0.015], [0.01, 0.025, 0.045]),
        ([0.0, 1.0, 2.0, 9.0], [0.0, 50.0, 100.0, 100.0], [0.5, 1.0, 7.0]),
    ],
    ids=[
        "less by what was taken",
        "a tick is spread",
        "never stands still, nor makes up for more than a second",
    ],
)
def test_the_calm_clock(
    walls: list[float], stolen: list[float], calm: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steal.time, "perf_counter", iter(walls).__next__)
    monkeypatch.setattr(steal, "steal_seconds", iter(stolen).__next__)
    clock = CalmClock()
    found = [clock() for _ in calm]
    monkeypatch.undo()
    assert found == pytest.approx(calm)


@pytest.mark.parametrize(
    ("calm_s", "stolen_s", "usual", "threads", "slower", "doubt"),
    [
        (10.0, 0.0, 0.0, 2, 1.0, 0.0),
        (10.0, 2.0, 0.0, 2, 1.1, 0.2),
        (10.0, 0.0, 0.05, 2, (1 + 1 / 0.9) / 2, 1 / 0.9 - 1),
        (10.0, 0.0, 0.05, 1, (1 + 1 / 0.95) / 2, 1 / 0.95 - 1),
        (10.0, 0.0, 0.9, 8, 1.5, 1.0),
        (10.0, 640.0, 0.0, 8, 1.5, 1.0),
        (0.0, 1.0, 0.0, 2, 1.0, 0.0),
    ],
)
def test_half_of_what_is_taken_now_and_half_of_what_was_since_boot(
    calm_s: float, stolen_s: float, usual: float, threads: int, slower: float, doubt: float
) -> None:
    assert expected_slowdown(calm_s, stolen_s, usual, threads) == pytest.approx((slower, doubt))
