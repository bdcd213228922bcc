from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from arriero.cost.device import DeviceProfile
from arriero.cost.trace import trace
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.feedforward_config import FeedForwardConfig
from arriero.models.recurrent import Recurrent
from arriero.models.recurrent_config import RecurrentConfig
from arriero.training import traced
from arriero.training.objectives.base import Objective, Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.objectives.dpo import DpoObjective
from arriero.training.objectives.sft import SftObjective
from arriero.training.objectives.stream import StreamObjective
from arriero.training.optimizers.clipping import clip_gradients
from arriero.training.optimizers.make import make_optimizer
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate
from arriero.training.traced import TracedFlops, Work, evaluation_figures, step_figures
from arriero.tuning.lora import apply_lora

CONFIG = DecoderConfig(
    vocab_size=300, d_model=48, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=12, d_ff=96, context_length=64
)
OBJECTIVES: dict[str, tuple[Objective, bool]] = {
    "causal": (CausalObjective(PlannedWindows(4, 64), 64, document_mask=True), True),
    "sft": (SftObjective([]), False),
    "dpo": (DpoObjective([], torch.zeros(0, 2), beta=0.1, label_smoothing=0.0, nll_coef=0.1), False),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_flops_of_any_batch_from_a_few_traces_are_exact(name: str, precision: Any) -> None:
    objective, masked = OBJECTIVES[name]
    work = Work(CONFIG, objective, TrainSettings(), precision)
    flops = TracedFlops(work)
    for shape in (Shape(2, 64, 100, masked), Shape(6, 23, 17, masked)):
        batch = objective.synthetic(shape)
        assert flops.training(batch) == pytest.approx(step_figures(work, [shape], None).flops, rel=1e-9)
        assert flops.evaluation(batch) == pytest.approx(evaluation_figures(work, shape, None).flops, rel=1e-9)


@pytest.mark.parametrize("masked", [False, True])
def test_flops_of_rows_of_several_blocks_of_queries_are_exact(masked: bool) -> None:
    objective = CausalObjective(PlannedWindows(4, 400), 400, document_mask=masked)
    work = Work(CONFIG.model_copy(update={"context_length": 400}), objective, TrainSettings(), "bf16")
    flops = TracedFlops(work)
    for length in (400, 256, 129):
        shape = Shape(2, length, 2 * length, masked)
        batch = objective.synthetic(shape)
        assert flops.training(batch) == pytest.approx(step_figures(work, [shape], None).flops, rel=1e-9)
        assert flops.evaluation(batch) == pytest.approx(evaluation_figures(work, shape, None).flops, rel=1e-9)


def test_plain_products_are_counted_as_anyone_would() -> None:
    """Six FLOPs a parameter and token in the matrices, and attention beside it."""
    tokens = 2 * 64
    work = Work(CONFIG, SftObjective([]), TrainSettings(), "fp32")
    heads, causal = CONFIG.n_heads * CONFIG.head_dim, 0.5
    matrices = CONFIG.n_layers * (2 * 48 * 48 + 2 * 48 * 24 + 3 * 48 * 96)
    attention = CONFIG.n_layers * tokens * 4 * 64 * heads * causal
    expected = 6 * tokens * (matrices + 300 * 48) + 3.5 * attention  # backward recomputes the scores
    expected += (2 * CONFIG.n_layers + 1) * 2 * tokens * 48  # a matrix-vector product in each norm's backward
    assert step_figures(work, [Shape(2, 64, tokens)], None).flops == pytest.approx(expected)


def test_deep_models_lie_on_the_line_through_shallow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, _ = OBJECTIVES["causal"]
    work = Work(CONFIG.model_copy(update={"n_layers": 12}), objective, TrainSettings(), "bf16")
    shapes, device = [Shape(2, 64, 128, True)] * 2, cast(DeviceProfile, object())
    monkeypatch.setattr(traced, "seconds", lambda trace, device: float(trace.bytes))
    line, flops_alone = step_figures(work, shapes, device), step_figures(work, shapes, None).flops
    monkeypatch.setattr(traced, "_WHOLE", 12)
    whole = step_figures(work, shapes, device)
    assert line == whole
    assert flops_alone == whole.flops


def test_adapters_change_the_state_and_the_arithmetic() -> None:
    objective, masked = OBJECTIVES["sft"]
    shape = Shape(2, 64, 128, masked)
    full = step_figures(Work(CONFIG, objective, TrainSettings(), "fp32"), [shape], None)
    adapted = Work(
        CONFIG, objective, TrainSettings(), "fp32", lambda model: apply_lora(model, 2, 4.0, 0.0, "q_proj", 0)
    )
    low = step_figures(adapted, [shape], None)
    assert low.flops < 0.9 * full.flops
    assert low.state_bytes < 0.5 * full.state_bytes


def test_the_fake_step_is_the_real_step() -> None:
    """The same tracker on a real step: same arithmetic, same peak."""
    objective, _ = OBJECTIVES["causal"]
    shape = Shape(2, 64, 128, True)
    fake = step_figures(Work(CONFIG, objective, TrainSettings(), "fp32"), [shape], None)

    def make() -> list[Any]:
        model = Decoder(CONFIG)
        model.init_weights(0)
        traced.head_parameters(model)
        return [model, make_optimizer(model, TrainSettings()), objective.synthetic(shape)]

    def step(state: list[Any]) -> None:
        model, optimizer, batch = state
        accumulate(model, objective, [batch], 128, "fp32")
        clip_gradients(list(model.parameters()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    real = trace(make, step, fake=False)
    assert real.flops == fake.flops
    assert real.peak_bytes == pytest.approx(fake.peak_bytes, rel=0.01)


def recurrent(family: str, **changes: Any) -> tuple[RecurrentConfig, StreamObjective]:
    values = {"vocab_size": 300, "d_model": 40, "n_layers": 2, "d_embedding": 24, **changes}
    config = RecurrentConfig.model_validate({"family": family, **values})
    return config, StreamObjective(PlannedWindows(40, 64), 64, True, streams=4)


@pytest.mark.parametrize(("family", "gates"), [("lstm", 4), ("rnn", 1)])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_recurrent_steps_are_counted_by_the_closed_form(family: str, gates: int, layers: int) -> None:
    """2 g h (e + h) a token and layer forward, three times that in training; and the head."""
    config, objective = recurrent(family, n_layers=layers, tie_embeddings=False)
    tokens = 3 * 64
    body = 2 * gates * 40 * ((24 + 40) + (layers - 1) * (40 + 40))
    head = 2 * 300 * 40
    work = Work(config, objective, TrainSettings(), "fp32")
    shape = Shape(3, 64, tokens, True)
    assert evaluation_figures(work, shape, None).flops == tokens * (body + head)
    assert step_figures(work, [shape], None).flops == 3 * tokens * (body + head)
    flops = TracedFlops(work)
    for rows, length in ((3, 64), (2, 37)):
        batch = objective.synthetic(Shape(rows, length, rows * length, True))
        assert flops.training(batch) == pytest.approx(3 * rows * length * (body + head), rel=1e-9)
        assert flops.evaluation(batch) == pytest.approx(rows * length * (body + head), rel=1e-9)


def test_feed_forward_steps_are_counted_by_the_closed_form() -> None:
    config = FeedForwardConfig(vocab_size=84, d_model=48, d_embedding=8, window=5)
    objective = CausalObjective(PlannedWindows(4, 64), 64, document_mask=True)
    work, tokens = Work(config, objective, TrainSettings(), "fp32"), 2 * 64
    forward = 2 * (5 * 8 * 48 + 48 * 84 + 5 * 8 * 84)
    shape = Shape(2, 64, tokens, True)
    assert evaluation_figures(work, shape, None).flops == tokens * forward
    assert step_figures(work, [shape], None).flops == 3 * tokens * forward


@pytest.mark.parametrize("family", ["lstm", "rnn"])
def test_the_fake_recurrent_step_is_the_real_step(family: str) -> None:
    config, objective = recurrent(family, d_model=96)
    shape = Shape(4, 64, 256, True)
    fake = step_figures(Work(config, objective, TrainSettings(), "fp32"), [shape], None)

    def make() -> list[Any]:
        model = Recurrent(config)
        model.init_weights(0)
        traced.head_parameters(model)
        return [model, make_optimizer(model, TrainSettings()), objective.synthetic(shape)]

    def step(state: list[Any]) -> None:
        model, optimizer, batch = state
        accumulate(model, objective, [batch], 256, "fp32")
        clip_gradients(list(model.parameters()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    real = trace(make, step, fake=False)
    assert real.flops == fake.flops and not real.uncounted
    assert real.peak_bytes == pytest.approx(fake.peak_bytes, rel=0.05)
