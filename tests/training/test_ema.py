from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from arriero.errors import Interrupted
from arriero.training.ema import WeightAverage
from arriero.training.loop import train
from arriero.training.objectives.causal import CausalObjective
from arriero.training.optimizers.make import make_optimizer
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work, step_figures

Make = Callable[..., Any]


def averaged(decay: float) -> tuple[nn.Linear, torch.optim.Optimizer, WeightAverage]:
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimizer = make_optimizer(layer, TrainSettings())
    return layer, optimizer, WeightAverage(list(layer.parameters()), optimizer, decay)


def test_it_is_the_average_that_its_docstring_says() -> None:
    layer, optimizer, average = averaged(0.6)
    expected = layer.weight.detach().clone().double()
    for step in range(1, 30):
        with torch.no_grad():
            layer.weight.normal_()
        average.update(step)
        keep = min(0.6, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * layer.weight.detach().double()
    torch.testing.assert_close(optimizer.state[layer.weight]["average"].double(), expected)


def test_weights_and_average_change_places_and_back_bit_for_bit() -> None:
    layer, optimizer, average = averaged(0.6)
    with torch.no_grad():
        layer.weight.normal_()
    weights, mean = layer.weight.detach().clone(), optimizer.state[layer.weight]["average"].clone()
    with average.in_place_of_weights():
        assert torch.equal(layer.weight, mean)
        with average.set_aside():
            assert torch.equal(layer.weight, weights)
            assert torch.equal(optimizer.state[layer.weight]["average"], mean)
        assert torch.equal(layer.weight, mean)
    assert torch.equal(layer.weight, weights) and torch.equal(optimizer.state[layer.weight]["average"], mean)
    with average.set_aside():
        assert torch.equal(layer.weight, weights)
    average.give()
    assert torch.equal(layer.weight, mean)


def test_without_a_decay_there_is_none() -> None:
    layer, optimizer, average = averaged(0.0)
    before = layer.weight.detach().clone()
    average.update(1)
    with average.in_place_of_weights():
        assert torch.equal(layer.weight, before)
    average.give()
    assert torch.equal(layer.weight, before) and "average" not in optimizer.state[layer.weight]


def test_a_run_scores_and_ends_with_the_average(
    make_model: Make, make_context: Make, causal: CausalObjective
) -> None:
    settings = TrainSettings(duration="6 steps", batch_size=6, learning_rate=1e-2, ema_decay=0.9)
    arithmetic, model, plain = Arithmetic("fp32", 1), make_model(), make_model()
    result = train(model, causal, settings, make_context(), arithmetic=arithmetic, heldout=causal)
    without = settings.model_copy(update={"ema_decay": 0.0})
    other = train(plain, causal, without, make_context(), arithmetic=arithmetic, heldout=causal)
    assert not torch.equal(model.embedding.weight, plain.embedding.weight)
    assert result.totals.curve_means() == other.totals.curve_means(), "training itself is as without"
    again = train(
        model, causal, settings.model_copy(update={"learning_rate": 1e-9}), make_context(),
        arithmetic=arithmetic, heldout=causal,
    )  # fmt: skip
    last = result.totals.evaluations[-1]["loss"]
    assert again.totals.evaluations[0]["loss"] == last != other.totals.evaluations[-1]["loss"]


def test_a_stop_within_an_evaluation_saves_the_weights_and_not_the_average(
    make_model: Make, make_context: Make, causal: CausalObjective, tmp_path: Any
) -> None:
    settings = TrainSettings(
        duration="8 steps", batch_size=6, micro_batch_size=6, learning_rate=1e-2, ema_decay=0.9, eval_every=4
    )  # fmt: skip
    arithmetic, whole, resumed = Arithmetic("fp32", 1), make_model(), make_model()
    train(whole, causal, settings, make_context(), arithmetic=arithmetic, heldout=causal)
    context = make_context(
        root=tmp_path / "a", stop_at=4
    )  # asked for after step 4: its evaluation is under way
    with pytest.raises(Interrupted, match="step 4 of 8"):
        train(make_model(), causal, settings, context, arithmetic=arithmetic, heldout=causal)
    train(resumed, causal, settings, make_context(root=tmp_path / "a"), arithmetic=arithmetic, heldout=causal)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_plan_sees_its_memory(make_model: Make, causal: CausalObjective) -> None:
    config, shape = make_model().config, causal.batch(range(4)).shape
    size = sum(p.numel() for p in make_model().parameters()) * 4

    def state_bytes(**changes: Any) -> float:
        return step_figures(Work(config, causal, TrainSettings(**changes), "fp32"), [shape], None).state_bytes

    assert state_bytes(ema_decay=0.99) - state_bytes() == pytest.approx(size, rel=0.01)
    assert state_bytes() - state_bytes(optimizer="adafactor") > 1.7 * size
    assert size * 0.3 < state_bytes() - state_bytes(optimizer="muon") < size
