"""Numbers told from texts: the loss, unknown numbers, and that two coordinates are learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.training.loop import train
from arriero.training.objectives.regression import Numbered, RegressionObjective
from arriero.training.settings import TrainSettings
from arriero.training.traced import TracedFlops, Work

VOCAB = 40


def model_of() -> Encoder:
    config = EncoderConfig(
        vocab_size=VOCAB, d_model=16, n_layers=1, n_heads=2, d_ff=32, context_length=40, init_std=0.1,
        task="sequence_classification", problem="regression", n_labels=2,
    )  # fmt: skip
    model = Encoder(config)
    model.init_weights(0)
    return model


def texts(count: int) -> list[Numbered]:
    """Coordinates that are the sums of the tokens' own."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(VOCAB, 2)) * 0.4
    ids = [np.array([1, *rng.integers(4, VOCAB, rng.integers(2, 12)), 2]) for _ in range(count)]
    return [Numbered(row, places[row[1:-1]].mean(0)) for row in ids]


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber"])
def test_the_loss_leaves_unknown_numbers_out(loss: Any) -> None:
    samples = texts(5)
    samples[2] = Numbered(samples[2].ids, np.array([np.nan, 0.3]))
    goal, model = RegressionObjective(samples, 2, 0, loss=loss, delta=0.2), model_of()
    batch = goal.batch([0, 2, 4])
    assert goal.weight(batch) == 5
    found, figures = goal.loss_sum(model, batch)
    errors = []
    for i in (0, 2, 4):
        alone = model(torch.from_numpy(samples[i].ids)[None])[0].detach()
        errors += [float(alone[k] - samples[i].numbers[k]) for k in (0, 1) if (i, k) != (2, 0)]
    e = torch.tensor(errors)
    wanted = {
        "squared": e.square().sum(), "absolute": e.abs().sum(),
        "huber": torch.where(e.abs() <= 0.2, e.square() / 2, 0.2 * (e.abs() - 0.1)).sum(),
    }[loss]  # fmt: skip
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(figures["absolute_error"], e.abs().sum(), rtol=1e-4, atol=1e-5)


def test_two_coordinates_are_learnt(make_context: Any, fp32: Any) -> None:
    samples = texts(260)
    goal, heldout = RegressionObjective(samples[:220], 2, 0), RegressionObjective(samples[220:], 2, 0)
    model = model_of()
    settings = TrainSettings(
        duration="150 steps", batch_size=16, learning_rate=1e-2, precision="fp32", weight_decay=0.0
    )
    work = Work(model.config, goal, settings, "fp32")
    context = make_context()
    result = train(model, goal, settings, context, arithmetic=fp32, heldout=heldout, flops=TracedFlops(work))
    variance = float(np.var([sample.numbers for sample in samples[220:]], axis=0).mean())
    assert result.totals.evaluations[-1]["loss"] < variance / 4
    assert context.flops > 0
