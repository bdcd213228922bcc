"""Our Adafactor against Hugging Face's and torch's, and Muon with AdamW against torch's two, on random matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from arriero.training.optimizers.adafactor import Adafactor
from arriero.training.optimizers.make import make_optimizer
from arriero.training.settings import TrainSettings

pytestmark = pytest.mark.parity
SHAPES = [(7, 5), (1, 9), (6, 1), (3, 4, 5), (11,), (1,)]


def tensors(scale: float) -> list[nn.Parameter]:
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(shape) * scale) for shape in SHAPES]


def run(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int = 12) -> None:
    draw = torch.Generator().manual_seed(2)
    for step in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=draw) * (0.1 + step)
        optimizer.step()


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_adafactor_is_hugging_faces(scale: float) -> None:
    transformers = pytest.importorskip("transformers")
    ours, theirs = tensors(scale), tensors(scale)
    run(Adafactor([{"params": ours}], 0.02), ours)
    run(
        transformers.Adafactor(theirs, lr=0.02, scale_parameter=True, relative_step=False, warmup_init=False),
        theirs,
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adafactor_is_torchs(decay: float) -> None:
    """With a learning rate under 1/sqrt(step), where torch caps it."""
    ours, theirs = tensors(1.0), tensors(1.0)
    run(Adafactor([{"params": ours, "weight_decay": decay}], 0.02), ours)
    run(torch.optim.Adafactor(theirs, lr=0.02, weight_decay=decay), theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_muon_with_adamw_is_torchs_two() -> None:
    def make() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Embedding(9, 6), nn.Linear(6, 8), nn.Linear(8, 4, bias=False), nn.LayerNorm(4)
        )

    settings = TrainSettings(optimizer="muon", learning_rate=0.02, weight_decay=0.2)
    ours, theirs = make(), make()
    run(make_optimizer(ours, settings), list(ours.parameters()))
    named = dict(theirs.named_parameters())
    matrices = [named.pop("1.weight"), named.pop("2.weight")]
    both = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(named.values(), lr=0.02, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    draw = torch.Generator().manual_seed(2)
    for step in range(12):
        for p in theirs.parameters():
            p.grad = torch.randn(p.shape, generator=draw) * (0.1 + step)
        for optimizer in both:
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
