"""Trials of answering: from what was measured to the speeds of a model, and back to plans."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from arriero.cost.device import Rate
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.serving import trial as module
from arriero.planning.serving.trial import Point, ServingTrial, Shape, measure, trial_in, trial_of

CONFIG = DecoderConfig(d_model=32, n_layers=3, n_heads=2, d_ff=64, vocab_size=97, context_length=256)


class Machine:
    """Steps that take exactly what a formula says: ``fixed + layers (rows x row + rows x kept x pair + ...)``."""

    def __init__(self, shape: Shape, depth: int, points: list[Point], device: str) -> None:
        self.depth = depth

    def seconds(self, point: Point, clock: Any) -> float:
        if point.tokens > 1:
            return self.depth * (point.tokens * 1e-4 + point.tokens**2 * 1e-7)
        return 1e-3 + self.depth * (2e-3 + point.rows * 1e-4 + point.rows * point.kept * 1e-6)


@pytest.mark.parametrize("most", [1 << 30, 50_000])
def test_what_a_machine_takes_is_found_again(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "_Runs", Machine)
    monkeypatch.setattr(module, "MOST_BYTES", most)
    config = CONFIG.model_copy(update={"n_layers": 9})
    shape = Shape(config, "fp32", 2)
    assert len(module._depths(shape)) == (1 if most > 1 << 20 else 2)
    ticks = iter(range(10**9))
    trial = trial_in(measure(shape, budget_s=0.0, clock=lambda: float(next(ticks))))
    for rows, kept in [(1, 50), (3, 200), (32, 1000), (48, 10)]:
        exact = 1e-3 + 9 * (2e-3 + rows * 1e-4 + rows * kept * 1e-6)
        assert trial.decode(kept, rows) == pytest.approx(exact, rel=1e-6)
    assert trial.prefill(100) == pytest.approx(9 * (100 * 1e-4 + 100**2 * 1e-7), rel=1e-6)
    assert trial.prefill(100, 3) == pytest.approx(3 * trial.prefill(100))


@pytest.mark.parametrize("held", ["fp32", "bf16", "int8", "int4"])
def test_real_steps_are_measured(held: Any) -> None:
    shape = Shape(CONFIG, held, 1)
    rates = measure(shape, budget_s=0.0)
    trial = trial_of(SimpleNamespace(rates=rates | {"other": Rate(per_s=1, spread=1, unit="x")}), shape)  # type: ignore[arg-type]
    assert trial is not None and trial.batches == module.BATCHES
    assert all(trial.decode(100, rows) > 0 for rows in (1, 5, 40)) and trial.prefill(64) > 0


def test_another_shape_has_no_trial() -> None:
    rates = {"serving.0123456789abcdef.step.1": Rate(per_s=1, spread=0.1, unit="s")}
    assert trial_of(SimpleNamespace(rates=rates), Shape(CONFIG, "fp32", 1)) is None  # type: ignore[arg-type]


def test_a_slow_level_never_makes_a_later_one_faster_than_none() -> None:
    trial = ServingTrial((1, 2), (2.0, 1.0), (0.0, 0.0), (1.0, 0.0), 0.1)
    assert trial.decode(10, 100) == 1.0


def test_quick_steps_run_many_times_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now, runs = 0.0, list[Point]()

    class Clocked(Machine):
        def seconds(self, point: Point, clock: Any) -> float:
            nonlocal now
            took = super().seconds(point, clock)
            now += took
            runs.append(point)
            return took

    monkeypatch.setattr(module, "_Runs", Clocked)
    shape = Shape(CONFIG, "fp32", 2)
    measure(shape, budget_s=14.0, clock=lambda: now)
    points = module._points(CONFIG)
    assert 14.0 <= now < 14.0 + 14.0 / module._TURNS + 1  # the budget and the turn in which it ends
    quick, slow = (
        sum(run == point for run in runs) for point in (points[0], max(points, key=lambda p: p.rows * p.kept))
    )
    assert quick > 3 * slow / 2 and slow >= 3
    assert len(set(runs[: len(runs) // 2])) == len(points)
