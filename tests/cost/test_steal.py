"""Time that a host takes from a virtual machine: read, left out, and expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.cost import steal
from arriero.cost.steal import calm_clock, expected_slowdown, usual_share


def test_the_share_is_of_the_time_in_which_there_was_work(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  50 5 20 900 77 3 2 20 1 1\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    assert usual_share(tmp_path) == 0.2, (
        "neither idle time nor waiting for discs, nor guests, who are in user time"
    )


@pytest.mark.parametrize("text", ["", "cpu  50 5 20\n", "cpu  a b c d e f g h\n"])
def test_what_the_system_does_not_say_is_nothing(text: str, tmp_path: Path) -> None:
    assert usual_share(tmp_path) == 0.0, "no file"
    (tmp_path / "stat").write_text(text)
    assert usual_share(tmp_path) == 0.0


def test_the_calm_clock_stands_still_while_a_core_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steal.time, "perf_counter", iter([100.0, 110.0]).__next__)
    monkeypatch.setattr(steal, "steal_seconds", iter([7.0, 9.5]).__next__)
    started = calm_clock()
    assert calm_clock() - started == 7.5


@pytest.mark.parametrize(
    ("calm_s", "stolen_s", "usual", "threads", "slower", "doubt"),
    [
        (10.0, 0.0, 0.0, 2, 1.0, 0.0),
        (10.0, 2.0, 0.0, 2, 1.1, 0.2),
        (10.0, 0.0, 0.05, 2, (1 + 1 / 0.9) / 2, 1 / 0.9 - 1),
        (10.0, 0.0, 0.05, 1, (1 + 1 / 0.95) / 2, 1 / 0.95 - 1),
        (10.0, 0.0, 0.9, 8, 1.5, 1.0),
        (0.0, 1.0, 0.0, 2, 1.0, 0.0),
    ],
)
def test_half_of_what_is_taken_now_and_half_of_what_was_since_boot(
    calm_s: float, stolen_s: float, usual: float, threads: int, slower: float, doubt: float
) -> None:
    assert expected_slowdown(calm_s, stolen_s, usual, threads) == pytest.approx((slower, doubt))
