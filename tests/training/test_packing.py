"""Conversations that share a row: the same loss and gradients as each by itself, and fewer tokens to work out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from arriero.models.checkpoint import build_model
from arriero.models.decoder_config import DecoderConfig
from arriero.training.batches import SampleOrder
from arriero.training.objectives.base import Batch
from arriero.training.objectives.packing import PackedBatch, area, balanced, can_pack, pack, padded_to
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate
from arriero.training.traced import TracedFlops, Work, step_figures

BASE: dict[str, Any] = {
    "vocab_size": 67, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_ff": 48,
    "context_length": 256,
}  # fmt: skip
LEARNED: dict[str, Any] = {
    "family": "gpt2", "norm": "layer", "positions": "learned", "n_kv_heads": 4, "activation": "gelu_tanh",
    "gated": False, "qkv_bias": True, "out_bias": True, "feed_forward_bias": True,
}  # fmt: skip
LENGTHS = [33, 201, 64, 40, 97, 150, 35, 61, 48, 256, 120, 77]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=30), st.integers(90, 200))
def test_every_document_is_in_one_row_that_holds_it(lengths: list[int], room: int) -> None:
    rows = pack(lengths, room)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(row == sorted(row) and sum(lengths[i] for i in row) <= room for row in rows)
    assert rows == pack(lengths, room)
    one_each = [[i] for i in range(len(lengths))]
    assert sum(lengths) <= area(rows, lengths, room)
    assert len(rows) <= len(one_each)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=30), st.integers(1, 9))
def test_groups_hold_no_more_documents_than_they_may(lengths: list[int], most: int) -> None:
    falling = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    groups = balanced(falling, lengths, -(-len(lengths) // most), most)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(0 < len(group) <= most for group in groups)


def conversations(lengths: Sequence[int] = LENGTHS) -> list[Row]:
    """With several turns: stretches of the user's and of the assistant's words."""
    draw = np.random.default_rng(0)
    return [Row(draw.integers(0, 67, n), (np.arange(n) + draw.integers(0, 9)) // 7 % 2 == 1) for n in lengths]


def gradients(
    model: Any, objective: SftObjective, parts: list[list[int]]
) -> tuple[float, list[torch.Tensor]]:
    batches: list[Batch] = [objective.batch(part) for part in parts]
    weight = sum(objective.weight(batch) for batch in batches)
    model.zero_grad()
    loss = float(accumulate(model, objective, batches, weight, "fp32")["loss"]) / weight
    return loss, [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("family", [{}, LEARNED], ids=["rotary", "learned"])
@pytest.mark.parametrize("size", [4, 7, 12])
def test_packed_rows_train_like_each_conversation_alone(family: dict[str, Any], size: int) -> None:
    model = build_model(DecoderConfig(**{**BASE, **family}))
    model.init_weights(1)
    rows = conversations()
    packed = SftObjective(rows, room=256)
    parts = packed.parts(range(len(rows)), size)
    assert any(isinstance(packed.batch(part), PackedBatch) for part in parts)
    assert sorted(i for part in parts for i in part) == list(range(len(rows)))
    loss, found = gradients(model, packed, parts)
    expected_loss, expected = gradients(model, SftObjective(rows), [[i] for i in range(len(rows))])
    assert abs(loss - expected_loss) < 1e-5
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_first_token_is_never_scored_by_the_conversation_before_it() -> None:
    rows = [Row(np.arange(n) % 67, np.ones(n, dtype=bool)) for n in (100, 60, 70)]
    objective = SftObjective(rows, room=256)
    batch = objective.batch([0, 1, 2])
    assert isinstance(batch, PackedBatch) and batch.positions is not None
    assert objective.weight(batch) == 99 + 59 + 69 and batch.tokens == 230
    flat = batch.ids.flatten()
    real = batch.targets != -100
    places = batch.positions[real]
    assert torch.equal(batch.targets[real], flat[places + 1])
    assert batch.segments is not None
    segments = batch.segments.flatten()
    assert torch.equal(segments[places], segments[places + 1]) and bool((segments[places] >= 0).all())


def test_packing_leaves_no_more_tokens_than_padding_and_is_a_function_of_the_samples() -> None:
    draw = np.random.default_rng(3)
    rows = conversations(np.clip(draw.lognormal(4.4, 0.6, 64), 20, 256).astype(int).tolist())
    padded, packed = SftObjective(rows), SftObjective(rows, room=256)

    def tokens(objective: SftObjective) -> int:
        order = SampleOrder(len(rows), 5)
        steps = [objective.parts(order.take(start, start + 16), 8) for start in range(0, 64, 16)]
        assert steps == [objective.parts(order.take(start, start + 16), 8) for start in range(0, 64, 16)]
        return sum(objective.batch(part).ids.numel() for parts in steps for part in parts)

    real = sum(len(row.ids) for row in rows)
    assert real < tokens(packed) < 1.2 * real
    assert tokens(packed) < 0.93 * tokens(padded)


def test_equal_lengths_and_short_conversations_stay_padded() -> None:
    for lengths in ([64] * 8, [5, 20, 9, 13, 7, 30]):
        objective = SftObjective(conversations(lengths), room=256)
        for part in objective.parts(range(len(lengths)), 8):
            assert objective.batch(part).segments is None


def test_only_models_that_attend_by_document_are_packed() -> None:
    assert can_pack(DecoderConfig(**BASE)) and can_pack(DecoderConfig(**{**BASE, **LEARNED}))
    assert not can_pack(DecoderConfig(**BASE, sliding_window=7, family="mistral"))
    assert not can_pack(DecoderConfig(**BASE, rope_scaling={"kind": "dynamic", "factor": 2.0}))


def test_a_plan_counts_the_arithmetic_of_packed_rows() -> None:
    rows = conversations()
    objective = SftObjective(rows, room=256)
    work = Work(DecoderConfig(**BASE), objective, TrainSettings(), "fp32")
    batch = objective.batch(range(len(rows)))
    assert isinstance(batch, PackedBatch)
    counted = TracedFlops(work).training(batch)
    assert step_figures(work, [batch.shape], None).flops == pytest.approx(counted, rel=0.02)
    plain = SftObjective(rows)
    assert counted < 0.6 * TracedFlops(work).training(plain.batch(range(len(rows))))


def test_rows_are_padded_to_a_step_but_no_further_than_they_may() -> None:
    assert [padded_to(n, 100) for n in (1, 32, 33, 97, 100)] == [32, 32, 64, 100, 100]
