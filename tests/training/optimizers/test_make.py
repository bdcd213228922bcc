"""The optimizers one by one, against formulas written out, and through stops and resumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from arriero.errors import Interrupted
from arriero.training.loop import train
from arriero.training.objectives.causal import CausalObjective
from arriero.training.optimizers.adafactor import Adafactor
from arriero.training.optimizers.clipping import clip_gradients
from arriero.training.optimizers.make import make_optimizer
from arriero.training.optimizers.muon import MuonWithAdamW
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.traced import TracedFlops, Work, step_figures, update_flops

Make = Callable[..., Any]
NAMES = ("adamw", "adafactor", "muon")


def settings(name: Any, **changes: Any) -> TrainSettings:
    values = {"optimizer": name, "duration": "10 steps", "batch_size": 6, "learning_rate": 1e-2}
    return TrainSettings.model_validate({**values, "checkpoint_every": "3 steps", **changes})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_ten_steps_are_five_and_five(
    name: str, ema: float, make_model: Make, make_context: Make, causal: CausalObjective, tmp_path: Path
) -> None:
    chosen, arithmetic = settings(name, ema_decay=ema), Arithmetic("fp32", 1)
    whole, resumed = make_model(tie_embeddings=False), make_model(tie_embeddings=False)
    train(whole, causal, chosen, make_context(), arithmetic=arithmetic, heldout=causal)
    with pytest.raises(Interrupted, match="step 5 of 10"):
        stopped = make_context(root=tmp_path / "a", stop_at=5)
        train(
            make_model(tie_embeddings=False), causal, chosen, stopped, arithmetic=arithmetic, heldout=causal
        )
    context = make_context(root=tmp_path / "a")
    train(resumed, causal, chosen, context, arithmetic=arithmetic, heldout=causal)
    assert context.said == ["going on from step 5 of 10"]
    for (label, one), other in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other), label


@pytest.mark.parametrize("name", NAMES)
def test_all_of_the_state_is_there_before_the_first_step(name: str, make_model: Make) -> None:
    model = make_model()
    optimizer = make_optimizer(model, settings(name))
    before = {p: {k: v.shape for k, v in optimizer.state[p].items()} for p in model.parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert {p: {k: v.shape for k, v in optimizer.state[p].items()} for p in model.parameters()} == before
    assert all(isinstance(v, torch.Tensor) for p in before for v in optimizer.state[p].values())
    optimizer.zero_grad(set_to_none=True)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str, make_model: Make, make_context: Make, causal: CausalObjective) -> None:
    chosen = settings(name, duration="30 steps", learning_rate=5e-2 if name == "adafactor" else 1e-2)
    result = train(
        make_model(), causal, chosen, make_context(), arithmetic=Arithmetic("fp32", 1), heldout=causal
    )
    first, last = (result.totals.evaluations[i]["loss"] for i in (0, -1))
    assert last < 0.75 * first


def test_adafactor_keeps_rows_and_columns_alone(make_model: Make) -> None:
    model = make_model()
    kept = {
        name: sum(v.numel() for p in model.parameters() for v in make_optimizer(model, settings(name)).state[p].values())
        for name in NAMES
    }  # fmt: skip
    size = sum(p.numel() for p in model.parameters())
    assert kept["adamw"] > 2 * size and size < kept["muon"] < 2 * size and kept["adafactor"] < 0.15 * size


def test_muon_steps_are_orthogonal_and_as_large_as_adamws() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 96, bias=True)
    before = layer.weight.detach().clone()
    optimizer = make_optimizer(layer, settings("muon", weight_decay=0.0, learning_rate=0.01))
    for p in layer.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    update = (layer.weight.detach() - before) / 0.01
    values = torch.linalg.svdvals(update) / (0.2 * math.sqrt(96))
    assert values.min() > 0.6 and values.max() < 1.3, "Newton-Schulz brings singular values near 1, not to it"
    assert 0.1 < float(update.square().mean().sqrt()) < 0.25, "0.2 as in arXiv 2502.16982"
    assert optimizer.state[layer.bias].keys() == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[layer.weight].keys() == {"momentum_buffer"}


@pytest.mark.parametrize("name", NAMES)
def test_decay_alone_shrinks_matrices_alone(name: str, make_model: Make) -> None:
    model = make_model()
    before = {label: p.detach().clone() for label, p in model.named_parameters()}
    optimizer = make_optimizer(model, settings(name, weight_decay=0.5, learning_rate=0.1))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for label, p in model.named_parameters():
        factor = 1.0 if "norm" in label else 1 - 0.1 * 0.5
        torch.testing.assert_close(p.detach(), before[label] * factor)


def test_the_arithmetic_of_muons_update_is_counted_once_a_step(
    causal: CausalObjective, make_model: Make
) -> None:
    config = make_model().config
    work = Work(config, causal, settings("muon"), "fp32")
    flops, shape = TracedFlops(work), causal.batch(range(4)).shape
    batch = causal.batch(range(4))
    assert update_flops(Work(config, causal, settings("adamw"), "fp32")) == 0
    assert flops.update() > 0
    for copies in (1, 2):
        traced = step_figures(work, [shape] * copies, None).flops
        assert traced == pytest.approx(copies * flops.training(batch) + flops.update(), rel=1e-9)


def test_clipping_scales_to_the_limit_and_tells_the_norm_before() -> None:
    layer = nn.Linear(3, 4)
    for p in layer.parameters():
        p.grad = torch.full_like(p, 2.0)
    norm = 2 * math.sqrt(16)
    assert float(clip_gradients(list(layer.parameters()), 0)) == pytest.approx(norm)
    assert float(clip_gradients(list(layer.parameters()), 1.0)) == pytest.approx(norm)
    assert float(clip_gradients(list(layer.parameters()), 1.0)) == pytest.approx(1.0, rel=1e-4)


class Everything:
    """The cut of a matrix of which one process has all."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape, self.places = shape, [torch.arange(size) for size in shape]

    def whole(self, part: torch.Tensor) -> torch.Tensor:
        return part

    def mine(self, whole: torch.Tensor) -> torch.Tensor:
        return whole

    def total(self, sums: torch.Tensor) -> torch.Tensor:
        return sums


def test_the_iteration_for_parts_is_that_of_torchs_muon() -> None:
    for shape in ((5, 9), (9, 5), (6, 6)):
        draw = torch.Generator().manual_seed(shape[0])
        weight, gradient = (torch.randn(shape, generator=draw) for _ in range(2))
        theirs, ours = torch.nn.Parameter(weight.clone()), torch.nn.Parameter(weight.clone())
        torch_muon = torch.optim.Muon(
            [theirs], lr=0.01, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
        )
        given = settings("muon", learning_rate=0.01, weight_decay=0.1)
        cut = MuonWithAdamW([ours], [], given, {ours: Everything(ours.shape)})
        for _ in range(3):
            theirs.grad, ours.grad = gradient.clone(), gradient.clone()
            torch_muon.step()
            cut.step()
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(5, 9), (7,), (4, 3, 5)])
def test_adafactor_of_a_part_that_is_all_is_adafactor(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(shape, generator=draw)
    plain, cut = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    both = [
        Adafactor([{"params": [plain], "weight_decay": 0.1}], 0.02),
        Adafactor([{"params": [cut], "weight_decay": 0.1}], 0.02, cuts={cut: Everything(torch.Size(shape))}),
    ]
    for _ in range(4):
        plain.grad = torch.randn(shape, generator=draw)
        cut.grad = plain.grad.clone()
        for optimizer in both:
            optimizer.step()
    assert torch.allclose(plain, cut, atol=1e-6)
