"""Layers whose passes the native library takes over: the gradients of torch's passes, no more kept, hooks respected."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.block import Block
from arriero.models.layers.feedforward import FeedForward
from arriero.models.layers.gated_down import joins
from arriero.models.layers.norm import RMSNorm
from arriero.native import training as native
from arriero.native.library import SWITCH

pytestmark = pytest.mark.skipif(not native.takes(torch.zeros(1)), reason="no native passes on this machine")


def both_ways(monkeypatch: pytest.MonkeyPatch, work: Any) -> tuple[Any, Any]:
    """(by the native passes, by torch's)."""
    mine = work()
    with monkeypatch.context() as patch:
        patch.setenv(SWITCH, "0")
        return mine, work()


def drawn(layer: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.3, generator=generator)
    return layer


def results(layer: nn.Module, x: Tensor, autocast: bool) -> list[Tensor]:
    """The result, and the gradients of x and of the parameters."""
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = layer(x)
    trained = [p for p in layer.parameters() if p.requires_grad]
    return [out.detach(), *torch.autograd.grad(out.float().sin().sum(), [x, *trained])]


def assert_close(mine: list[Tensor], theirs: list[Tensor], autocast: bool) -> None:
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        scale = float(b.float().abs().max()) if b.numel() else 0.0
        torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=scale * (0.03 if autocast else 2e-5))


class Stub(nn.Module):
    """An attention that looks at no other token."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("frozen", ["", "feed_forward.down_proj", "attention_norm", "feed_forward.gate_proj"])
def test_a_block_has_torchs_gradients(autocast: bool, frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = drawn(Block(24, Stub(), FeedForward(24, 40, bias=True)), 0)
    if frozen:
        block.get_submodule(frozen).requires_grad_(False)
    x = torch.randn(3, 17, 24, generator=torch.Generator().manual_seed(1))
    assert_close(*both_ways(monkeypatch, lambda: results(block, x, autocast)), autocast)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 9), st.integers(1, 40), st.integers(1, 40), st.booleans(), st.booleans(), st.booleans(),
    st.integers(0, 2**31),
)  # fmt: skip
def test_layers_of_any_size_have_torchs_gradients(
    rows: int, width: int, inner: int, bias: bool, autocast: bool, turned: bool, seed: int
) -> None:
    layer = drawn(nn.Sequential(RMSNorm(width, 1e-5), FeedForward(width, inner, bias=bias)), seed)
    x = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(seed))
    if turned:  # lies in memory otherwise
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    with pytest.MonkeyPatch.context() as patch:
        mine, theirs = both_ways(patch, lambda: results(layer, x, autocast))
    for a, b in zip(mine, theirs, strict=True):
        assert bool(a.isfinite().all())
        torch.testing.assert_close(a.float(), b.float(), rtol=0.1, atol=0.1 if autocast else 1e-3)


def kept_bytes(layer: nn.Module, x: Tensor) -> int:
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        out = layer(x * 1.0)
    for p in layer.parameters():
        seen.pop(p.untyped_storage().data_ptr(), None)
    assert out.requires_grad
    return sum(seen.values())


def test_a_block_keeps_what_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan traces torch's passes."""
    block = drawn(Block(64, Stub(), FeedForward(64, 192)), 0)
    x = torch.randn(2, 50, 64, requires_grad=True)
    mine, theirs = both_ways(monkeypatch, lambda: kept_bytes(block, x))
    assert mine == theirs


def test_a_layer_that_someone_hooked_is_called() -> None:
    feed_forward = drawn(FeedForward(8, 16), 0)
    assert isinstance(feed_forward, FeedForward)
    gate, up = (torch.randn(3, 16, requires_grad=True) for _ in range(2))
    assert joins(gate, up, feed_forward.down_proj)
    seen: list[Tensor] = []
    handle = feed_forward.down_proj.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert not joins(gate, up, feed_forward.down_proj)
    feed_forward(torch.randn(2, 8, requires_grad=True))
    assert len(seen) == 1
    handle.remove()
    feed_forward.down_proj.__dict__["forward"] = lambda x: x
    assert not joins(gate, up, feed_forward.down_proj)
    norm = drawn(RMSNorm(8, 1e-5), 0)
    assert isinstance(norm, RMSNorm)
    norm.register_forward_hook(lambda module, inputs, output: output * 2)
    x = torch.randn(4, 8, requires_grad=True)
    torch.testing.assert_close(norm.of_stream(x)[0], norm(x))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_is_torchs_but_for_rounding(precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from arriero.training.objectives.base import Shape
    from arriero.training.objectives.causal import CausalObjective, PlannedWindows
    from arriero.training.optimizers.clipping import clip_gradients
    from arriero.training.optimizers.make import make_optimizer
    from arriero.training.settings import TrainSettings
    from arriero.training.step import accumulate

    config = DecoderConfig(
        vocab_size=211,
        d_model=48,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=12,
        d_ff=88,
        context_length=32,
    )
    objective = CausalObjective(PlannedWindows(3, 32), 32, document_mask=False)
    batch = objective.synthetic(Shape(3, 32, 96, masked=False))
    for ids in (batch.ids, batch.targets):
        ids.random_(211, generator=torch.Generator().manual_seed(0))

    def losses() -> list[float]:
        model = Decoder(config)
        model.init_weights(0)
        optimizer = make_optimizer(model, TrainSettings(learning_rate=3e-3))
        found = []
        for _ in range(8):
            found.append(float(accumulate(model, objective, [batch], 96, precision)["loss"]) / 96)
            clip_gradients(list(model.parameters()), 0.5, optimizer)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return found

    mine, theirs = both_ways(monkeypatch, losses)
    assert mine[-1] < mine[0] - 0.3
    assert mine == pytest.approx(theirs, rel=2e-5 if precision == "fp32" else 3e-3)
    assert mine == losses()
