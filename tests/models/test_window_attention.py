"""Longformer's attention against a full one with a mask, and its memory as sequences grow."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.cost.trace import trace
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.models.initialise import initialise
from arriero.models.layers import window_attention
from arriero.models.layers.window_attention import WindowAttention, window_context


def full_attention(layer: WindowAttention, x: Tensor, window: int, keep: Tensor, flags: Tensor) -> Tensor:
    """The definition: all scores, then a mask (arXiv 2004.05150, section 3.1)."""
    length = x.shape[1]

    def heads(projection: torch.nn.Module) -> Tensor:
        return projection(x).unflatten(2, (layer.n_heads, -1)).transpose(1, 2)

    places = torch.arange(length)
    near = (places[:, None] - places[None, :]).abs() <= window // 2
    seen = (near[None] | flags[:, None, :]) & keep[:, None, :]
    scores = heads(layer.q_proj) @ heads(layer.k_proj).transpose(2, 3) * layer.head_dim**-0.5
    local = scores.masked_fill(~seen[:, None], -math.inf).softmax(-1).nan_to_num() @ heads(layer.v_proj)
    local = local * keep[:, None, :, None]
    scores = heads(layer.global_q_proj) @ heads(layer.global_k_proj).transpose(2, 3) * layer.head_dim**-0.5
    wide = scores.masked_fill(~keep[:, None, None, :], -math.inf).softmax(-1) @ heads(layer.global_v_proj)
    mixed = torch.where(flags[:, None, :, None], wide, local)
    return layer.o_proj(mixed.transpose(1, 2).flatten(2))


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 33),
    half=st.integers(1, 6),
    chunk=st.sampled_from([1, 3, 8, 128]),
    share=st.sampled_from([0.0, 0.1, 0.6]),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_full_attention_with_a_mask(
    length: int, half: int, chunk: int, share: float, padded: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = WindowAttention(12, 3)
    initialise(layer, seed, 0.5)
    x = torch.randn(2, length, 12, generator=generator)
    keep = torch.ones(2, length, dtype=torch.bool)
    if padded:
        keep = torch.rand(2, length, generator=generator) > 0.3
        keep[:, 0] = True
    flags = (torch.rand(2, length, generator=generator) < share) & keep
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(window_attention, "SMALLEST_CHUNK", chunk)
        context = window_context(length, 2 * half, keep if padded else None, flags, x)
        result = layer(x, context)
        expected = full_attention(layer, x, 2 * half, keep, flags)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)


def growth(train: bool) -> float:
    """Exponent of peak memory, less weights, from 512 to 4,096 tokens."""
    config = EncoderConfig.parse(
        {
            "attention": "window", "windows": [64, 64], "vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 2,
            "d_ff": 16, "context_length": 4096, "task": "sequence_classification",
        },
        "test",
    )  # fmt: skip
    peaks = []
    for length in (512, 4096):

        def make(length: int = length) -> tuple[Encoder, Tensor, Tensor]:
            model = Encoder(config)
            model.init_weights(0)
            mask = torch.ones(1, length)
            mask[:, -5:] = 0
            return model, torch.zeros(1, length, dtype=torch.int64), mask

        def run(state: tuple[Encoder, Tensor, Tensor]) -> None:
            model, ids, mask = state
            with torch.set_grad_enabled(train):
                logits = model(ids, attention_mask=mask)
                if train:
                    model.loss(logits, torch.zeros(1, dtype=torch.int64)).backward()

        done = trace(make, run, fake=False)
        peaks.append(done.peak_bytes - done.state_bytes)
    return math.log(peaks[1] / peaks[0]) / math.log(8)


@pytest.mark.parametrize("train", [False, True])
def test_memory_grows_with_the_length_not_its_square(train: bool) -> None:
    assert growth(train) < 1.15
