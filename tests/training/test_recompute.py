"""Activation checkpointing: the same bits, less memory, more arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arriero.cost.trace import Trace, trace
from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.recurrent import Recurrent
from arriero.models.recurrent_config import RecurrentConfig
from arriero.training.objectives.base import Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.objectives.head import head_parameters
from arriero.training.precision import Precision
from arriero.training.recompute import Recompute, check_recompute, recomputing, wrap_blocks
from arriero.training.step import accumulate

CONFIG = DecoderConfig(
    vocab_size=97, d_model=48, n_layers=3, n_heads=4, n_kv_heads=2, d_ff=144, context_length=40
)
OBJECTIVE = CausalObjective(PlannedWindows(3, 40), 40, document_mask=True)
SHAPE = Shape(3, 40, 120, masked=True)
MANY = Shape(24, 40, 960, masked=True)
"""Enough tokens that activations outweigh the gradients, which come while activations go."""


def batch() -> Any:
    made = OBJECTIVE.synthetic(SHAPE)
    generator = torch.Generator().manual_seed(1)
    made.ids.random_(97, generator=generator)
    made.targets.random_(97, generator=generator)
    made.segments[:, 33:] = 1
    return made


def gradients(mode: Recompute, precision: Precision, config: DecoderConfig = CONFIG) -> list[torch.Tensor]:
    model = Decoder(config)
    model.init_weights(0)
    model.train()
    torch.manual_seed(5)
    names = list(model.state_dict())
    with recomputing(model, mode):
        assert list(model.state_dict()) == names
        loss = accumulate(model, OBJECTIVE, [batch()], 120, precision)["loss"]
    assert all("forward" not in block.__dict__ for block in model.blocks)
    return [loss, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["selective", "full"])
def test_the_gradient_has_the_same_bits(mode: Recompute, precision: Precision) -> None:
    plain, again = gradients("none", precision), gradients(mode, precision)
    assert len(plain) == len(again) > 20
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_what_was_dropped_is_dropped_again(mode: Recompute) -> None:
    config = CONFIG.model_copy(update={"dropout": 0.3})
    plain, again = gradients("none", "fp32", config), gradients(mode, "fp32", config)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def traced(mode: Recompute) -> Trace:
    def make() -> list[Any]:
        model = Decoder(CONFIG)
        head_parameters(model)
        wrap_blocks(model, mode)
        return [model, OBJECTIVE.synthetic(MANY)]

    return trace(make, lambda state: accumulate(state[0], OBJECTIVE, [state[1]], 960, "fp32"))


def test_a_plan_sees_less_memory_and_more_arithmetic() -> None:
    none, selective, full = (traced(mode) for mode in ("none", "selective", "full"))
    live = [found.peak_bytes - found.state_bytes for found in (none, selective, full)]
    assert live[0] > live[1] > live[2]
    assert not none.uncounted + full.uncounted
    # the blocks' products once more, 2 FLOPs a weight and token; attention's are on top
    weights = CONFIG.parameter_counts()
    once_more = 2 * 960 * (weights["attention"] + weights["feed_forward"])
    assert once_more < full.flops - none.flops < 1.15 * once_more
    # keys, values, gate and up are worked out again: those are what widens or narrows by more than half
    widening = 2 * 960 * (weights["feed_forward"] * 2 // 3)
    assert widening <= selective.flops - none.flops < once_more


def test_a_model_without_blocks_is_refused() -> None:
    config = RecurrentConfig(family="lstm", vocab_size=20, d_model=8, n_layers=1)
    with (
        pytest.raises(ArrieroError, match=r"activation_checkpointing full .*no Transformer blocks"),
        recomputing(Recurrent(config), "full"),
    ):
        pass


def test_selective_with_shared_layers_in_narrow_products_is_refused_in_a_line() -> None:
    from arriero.models.checkpoint import build_model
    from arriero.models.encoder_config import EncoderConfig

    config = EncoderConfig(
        family="albert", vocab_size=30, d_model=16, n_layers=3, n_heads=2, d_ff=32, context_length=8,
        n_groups=1,
    )  # fmt: skip
    model = build_model(config)
    with pytest.raises(ArrieroError, match="share their weights in bf16; take full or none"):
        check_recompute(model, "selective", True)
    check_recompute(model, "selective", False)
    check_recompute(model, "full", True)
    check_recompute(Decoder(CONFIG), "selective", True)
