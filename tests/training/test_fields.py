"""Losses over fields: weights of channels and latitudes, masks, files read piece by piece, and a small convolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from arriero.errors import ArrieroError
from arriero.training.loop import train
from arriero.training.objectives.fields import (
    FieldObjective,
    FieldPairs,
    FieldShape,
    FieldWeights,
    latitude_weights,
)
from arriero.training.settings import TrainSettings

RNG = np.random.default_rng(0)
N, C, D, H, W = 9, 3, 2, 5, 7


def pairs(mask: Any = None) -> FieldPairs:
    return FieldPairs(RNG.normal(size=(N, C, H, W)), RNG.normal(size=(N, D, H, W)), mask)


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(C, D, 3, padding=1)


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber"])
@pytest.mark.parametrize("masked", ["none", "one", "each"])
def test_the_loss_is_the_weighted_sum_written_out(loss: Any, masked: str) -> None:
    mask = {"none": None, "one": RNG.random((D, H, W)) < 0.6, "each": RNG.random((N, D, H, W)) < 0.6}[masked]
    data = pairs(mask)
    channels, rows = [1.0, 0.25], [0.5, 1.0, 2.0, 1.0, 0.5]
    goal = FieldObjective(data, FieldWeights(channels, rows), loss=loss, delta=0.7)
    model, chosen = convolution(), [4, 1, 8]
    batch = goal.batch(chosen)
    found, _ = goal.loss_sum(model, batch)
    wanted, count = torch.zeros(()), 0
    outputs = model(torch.tensor(data.inputs[chosen], dtype=torch.float32))
    for b, index in enumerate(chosen):
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    keep = data.mask_of(index)
                    if keep is not None and not keep[d, h, w]:
                        continue
                    count += 1
                    error = outputs[b, d, h, w] - data.targets[index, d, h, w]
                    size = error.abs()
                    each = {
                        "squared": error**2, "absolute": size,
                        "huber": error**2 / 2 if size <= 0.7 else 0.7 * (size - 0.35),
                    }[loss]  # fmt: skip
                    wanted = wanted + channels[d] * rows[h] * each
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-4)
    assert goal.weight(batch) == count


def test_what_the_mask_leaves_out_may_be_no_number() -> None:
    data = pairs(np.ones((D, H, W), dtype=bool))
    targets, mask = data.targets.copy(), np.ones((D, H, W), dtype=bool)
    targets[:, 1, 2, 3], mask[1, 2, 3] = np.nan, False
    goal = FieldObjective(FieldPairs(data.inputs, targets, mask))
    model = convolution()
    loss, _ = goal.loss_sum(model, goal.batch([0, 1]))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_latitude_weights_are_the_areas_of_the_rows() -> None:
    weights = np.array(latitude_weights(181))
    assert weights.mean() == pytest.approx(1) and weights[0] == pytest.approx(0, abs=1e-12)
    assert weights[90] / weights[30] == pytest.approx(2)  # the equator and 60 degrees north
    edges = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 181))
    np.testing.assert_allclose(latitude_weights(180, poles=False), np.diff(edges) / np.diff(edges).mean(), rtol=1e-4)  # fmt: skip


def test_files_are_read_piece_by_piece(tmp_path: Path) -> None:
    data = pairs()
    np.save(tmp_path / "in.npy", data.inputs)
    np.save(tmp_path / "out.npy", data.targets.astype(np.float16))
    opened = FieldPairs.open(tmp_path / "in.npy", tmp_path / "out.npy")
    assert isinstance(opened.inputs, np.memmap) and len(opened) == N
    batch = FieldObjective(opened).batch([2])
    np.testing.assert_allclose(batch.inputs[0].numpy(), data.inputs[2], rtol=1e-6)


def test_a_field_from_a_field_is_learnt_and_micro_batches_do_not_matter(make_context: Any, fp32: Any) -> None:
    true = nn.Conv2d(C, D, 3, padding=1)
    inputs = RNG.normal(size=(40, C, H, W)).astype(np.float32)
    with torch.no_grad():
        targets = true(torch.from_numpy(inputs)).numpy()
    mask = RNG.random((40, D, H, W)) < 0.7
    goal = FieldObjective(FieldPairs(inputs, targets, mask), FieldWeights((), latitude_weights(H)))
    weights = []
    for micro in (8, 3):
        model = convolution()
        settings = TrainSettings(
            duration="120 steps", batch_size=8, micro_batch_size=micro, learning_rate=3e-2, precision="fp32",
            weight_decay=0.0,
        )  # fmt: skip
        result = train(model, goal, settings, make_context(), arithmetic=fp32, heldout=goal)
        first, last = (result.totals.evaluations[i]["loss"] for i in (0, -1))
        assert last < first / 20
        weights.append(model.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights[0], true.weight.detach(), rtol=0, atol=0.05)


def test_a_plan_has_a_batch_of_the_same_shape() -> None:
    goal = FieldObjective(pairs())
    shape = goal.batch([0, 1]).shape
    made = goal.synthetic(shape)
    assert isinstance(shape, FieldShape) and made.shape == shape and made.tokens == 2 * H * W
    assert goal.synthetic(shape).inputs.shape == (2, C, H, W)
    loss, _ = goal.loss_sum(lambda x: F.pad(x, (0, 0, 0, 0))[:, :D], made)
    assert loss == 0


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="differ in number or grid"):
        FieldPairs(np.zeros((2, 1, 4, 4)), np.zeros((3, 1, 4, 4)))
    with pytest.raises(ArrieroError, match="the mask is"):
        FieldPairs(np.zeros((2, 1, 4, 4)), np.zeros((2, 1, 4, 4)), np.zeros((4, 4)))
    with pytest.raises(ArrieroError, match="2 channel weights"):
        FieldObjective(pairs(), FieldWeights([1.0]))
    with pytest.raises(ArrieroError, match="does not exist"):
        FieldPairs.open(tmp_path / "none.npy", tmp_path / "none.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ArrieroError, match="npy file of numbers"):
        FieldPairs.open(tmp_path / "objects.npy", tmp_path / "objects.npy")
    goal = FieldObjective(pairs())
    with pytest.raises(ArrieroError, match="the model gives fields"):
        goal.loss_sum(lambda x: x, goal.batch([0]))
