"""Real steps at two depths: the line to the whole depth in seconds, bytes and joules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from arriero.models.decoder_config import DecoderConfig
from arriero.training import device_trial
from arriero.training.device_trial import line, measure_step, predict_step, rising, tracked_peak, trial_depths
from arriero.training.objectives.base import Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.traced import Work
from arriero.tuning.adapt import AdaptSettings, adapter_setup

CONFIG = DecoderConfig(
    vocab_size=61, d_model=16, n_layers=12, n_heads=2, n_kv_heads=1, d_ff=32, context_length=12
)
SHAPES = [Shape(4, 12, 48)]


def work(**settings: Any) -> Work:
    given = AdaptSettings(data=["none"], duration="1 steps", precision="fp32", batch_size=4, **settings)
    objective = CausalObjective(PlannedWindows(4, 12), 12, document_mask=False)
    return Work(CONFIG, objective, given, "fp32", adapter_setup(given, 0))


def test_depths_are_a_few_of_many_and_all_of_few() -> None:
    assert [trial_depths(n) for n in (1, 3, 4, 12, 28)] == [(1,), (3,), (1, 3), (1, 4), (3, 9)]


def test_lines() -> None:
    assert line({1: 5.0, 3: 9.0}, 12) == 27.0
    assert line({3: 9.0}, 3) == 9.0
    assert rising({1: 5.0, 4: 3.0}, 12) == 5.0, "a disturbed trial never says that depth is free"


class Machine:
    """A clock and a counter that steps alone move: a block takes 3 s and 50 J, all else 2 s and 10 J."""

    def __init__(self) -> None:
        self.now, self.joules = 0.0, 1000.0

    @contextmanager
    def steps(self, work: Work, config: Any, shapes: Any, device: str) -> Iterator[Callable[[], None]]:
        def step() -> None:
            self.now += 2 + 3 * config.n_layers
            self.joules += 10 + 50 * config.n_layers

        yield step


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(device_trial, "real_steps", found.steps)
    monkeypatch.setattr(device_trial, "traced_peak", lambda work, config, shapes: 100.0 * config.n_layers)
    monkeypatch.setattr(
        device_trial, "tracked_peak", lambda work, config, shapes: 7 + 103.0 * config.n_layers
    )
    return found


def test_the_whole_model_lies_on_the_line(machine: Machine) -> None:
    found = predict_step(
        work(), SHAPES, "cpu", budget_s=60, joules=lambda now: machine.joules, clock=lambda: machine.now
    )
    assert found.seconds == pytest.approx(38) and found.joules == pytest.approx(610)
    assert found.peak_bytes == pytest.approx(1200 + 7 + 36), "the trace, and what the device adds to it"
    assert found.spread == 0 and set(found.trials) == {1, 4}


@pytest.mark.parametrize("joules", [None, lambda now: None])
def test_without_a_counter_the_energy_is_unknown(machine: Machine, joules: Any) -> None:
    found = predict_step(work(), SHAPES, "cpu", budget_s=1, joules=joules, clock=lambda: machine.now)
    assert found.joules is None and found.seconds > 0


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}, {"activation_checkpointing": "full"}])
def test_bytes_are_those_of_the_real_step(settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    given = work(**settings)
    found = predict_step(given, SHAPES, "cpu", budget_s=0.0)
    assert found.peak_bytes == tracked_peak(given, CONFIG, SHAPES)


def test_real_steps_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps are optimizer steps of the run: weights move."""
    found = measure_step(work(), CONFIG, SHAPES, "cpu", budget_s=0.0)
    assert found.steps >= 3 and found.seconds > 0
    state = device_trial.drawn_state(work(), CONFIG, SHAPES, "cpu")
    before = next(state[0].parameters()).detach().clone()
    device_trial.take_step(work(), state)
    assert not torch.equal(before, next(state[0].parameters()))
