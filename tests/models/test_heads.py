"""Losses of the heads, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from arriero.models.encoder_config import EncoderConfig
from arriero.models.heads import SpanHead, cross_entropy, sequence_loss


def make_config(**changes: object) -> EncoderConfig:
    values = {"vocab_size": 9, "d_model": 4, "n_layers": 1, "n_heads": 1, "d_ff": 4, "context_length": 4}
    return EncoderConfig.parse({**values, **changes}, "test")


def test_cross_entropy_skips_negative_labels() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0], [math.log(3.0), 0.0]])
    assert cross_entropy(logits, torch.tensor([1, -100, 1])).item() == pytest.approx(
        (math.log(4 / 3) + math.log(4)) / 2
    )
    assert cross_entropy(logits, torch.tensor([-100, -1, -100])).item() == 0.0


def test_multi_output_regression() -> None:
    config = make_config(n_labels=2, problem="regression")
    loss = sequence_loss(
        torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]]), config
    )
    assert loss.item() == pytest.approx(10 / 4)


def test_one_output_is_regression_by_itself() -> None:
    logits = torch.tensor([[1.0], [3.0]])
    for labels in (torch.tensor([0.0, 3.0]), torch.tensor([[0.0], [3.0]])):
        assert sequence_loss(logits, labels, make_config(n_labels=1)).item() == pytest.approx(0.5)


def test_float_labels_are_independent_or_shares() -> None:
    logits, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    assert sequence_loss(logits, labels, make_config()).item() == pytest.approx(math.log(2))
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert sequence_loss(logits, labels, make_config(soft_labels=True)).item() == pytest.approx(math.log(4))


def test_spans_outside_do_not_count() -> None:
    head = SpanHead(make_config(task="question_answering"))
    start, end = torch.tensor([[0.0, math.log(3.0)]] * 2), torch.zeros(2, 2)
    loss = head.loss((start, end), (torch.tensor([1, 7]), torch.tensor([0, 1])))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
