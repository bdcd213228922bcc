from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.training.evaluation import evaluate
from arriero.training.objectives import head
from arriero.training.objectives.base import Shape
from arriero.training.objectives.seq2seq import Pair, PairShape, Seq2SeqObjective
from arriero.training.pair_flops import PairFlops
from arriero.training.schedule import learning_rate, learning_rate_within
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate
from arriero.training.traced import Work, evaluation_figures, step_figures

CONFIG = Seq2SeqConfig(
    vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=1, encoder_heads=2, encoder_d_ff=24,
    context_length=128, dropout=0.0, pad_id=0, eos_id=1, start_id=2,
)  # fmt: skip
RELATIVE = CONFIG.model_copy(
    update={
        "positions": "relative",
        "norm": "rms",
        "arrangement": "pre",
        "bias": False,
        "scale_attention": False,
    }
)


def make_pairs(count: int = 9, longest: int = 40) -> list[Pair]:
    draw = np.random.default_rng(0)

    def ids() -> np.ndarray:
        return np.append(draw.integers(3, 40, draw.integers(0, longest)), 1)

    return [Pair(ids(), ids()) for _ in range(count)]


def make_model(config: Seq2SeqConfig = CONFIG, seed: int = 0) -> Seq2Seq:
    model = Seq2Seq(config)
    model.init_weights(seed)
    return model


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_smoothed_cross_entropy_of_each_pair_alone(smoothing: float) -> None:
    model, pairs = make_model(), make_pairs()
    objective = Seq2SeqObjective(pairs, 2, smoothing)
    batch = objective.batch(range(len(pairs)))
    expected = 0.0
    for pair in pairs:
        written = torch.tensor(np.concatenate([[2], pair.target[:-1]]))[None]
        log_probs = model(torch.tensor(pair.source)[None], written)[0].detach().log_softmax(-1)
        likelihood = log_probs.gather(1, torch.tensor(pair.target)[:, None])[:, 0]
        # Szegedy et al., equation of section 7: (1 - e) of the weight on the target, e spread over all
        expected -= float(((1 - smoothing) * likelihood + smoothing * log_probs.mean(-1)).sum())
    assert objective.loss_sum(model, batch)[0].item() == pytest.approx(expected, rel=1e-5)
    assert objective.weight(batch) == sum(len(pair.target) for pair in pairs)
    assert batch.tokens == sum(len(pair.target) + len(pair.source) for pair in pairs)
    scored = model.target_logprobs([p.source for p in pairs], [p.target for p in pairs])
    if not smoothing:
        assert -sum(values.sum() for values in scored) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("config", [CONFIG, RELATIVE], ids=["transformer", "t5"])
def test_micro_batches_do_not_change_the_gradient(config: Seq2SeqConfig) -> None:
    model, objective = make_model(config), Seq2SeqObjective(make_pairs(8), 2, 0.1)
    found = []
    for size in (1, 3, 8):
        batches = [objective.batch(part) for part in objective.parts(range(8), size)]
        weight = sum(objective.weight(batch) for batch in batches)
        loss = accumulate(model, objective, batches, weight, "fp32")["loss"] / weight
        found.append(
            (loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        )
        model.zero_grad(set_to_none=True)
    assert found[0][1].keys() == dict(model.named_parameters()).keys()
    for loss, gradients in found[1:]:
        assert loss.item() == pytest.approx(found[0][0].item(), rel=1e-5)
        for name, gradient in gradients.items():
            assert torch.allclose(gradient, found[0][1][name], atol=1e-6), name


@pytest.mark.parametrize("block", [40 * 3, 1 << 22])
def test_the_blocked_smoothed_loss_has_the_plain_gradient(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "BLOCK_LOGITS", block)
    model = make_model()
    hidden = torch.randn(10, 16, requires_grad=True)
    targets = torch.randint(0, 40, (10,))
    targets[3] = -100
    plain = F.cross_entropy(model.logits(hidden), targets, reduction="sum", label_smoothing=0.2)
    expected = torch.autograd.grad(plain, [hidden, model.embedding.weight])
    blocked = head.loss_sum(model, hidden, targets, 0.2)
    found = torch.autograd.grad(blocked, [hidden, model.embedding.weight])
    assert blocked.item() == pytest.approx(plain.item(), rel=1e-5)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_synthetic_batches_are_shaped_like_real_ones() -> None:
    objective = Seq2SeqObjective(make_pairs(), 2)
    shape = objective.batch(range(4)).shape
    assert objective.synthetic(shape).shape == shape
    source, target = objective.batch(range(4)).source.shape[1], objective.batch(range(4)).ids.shape[1]
    assert (shape.source, shape.length) == (source, source + target)
    plain = objective.synthetic(Shape(3, 60, 10)).shape
    assert (plain.rows, plain.length, plain.scored) == (3, 60, 10)
    assert plain.source == round(60 * objective.source_share)
    uneven = [Pair(np.ones(30, dtype=np.int64), np.ones(2, dtype=np.int64))] * 9
    uneven.append(Pair(np.ones(3, dtype=np.int64), np.ones(40, dtype=np.int64)))
    widest = Seq2SeqObjective(uneven, 2).synthetic(Shape(1, 70, 8))
    assert (widest.source.shape[1], widest.ids.shape[1]) == (30, 40)


@pytest.mark.parametrize(
    ("config", "precision"), [(CONFIG, "fp32"), (RELATIVE, "bf16")], ids=["transformer", "t5"]
)
def test_flops_of_any_batch_from_a_few_traces_are_exact(config: Seq2SeqConfig, precision: Any) -> None:
    objective = Seq2SeqObjective([], 2, 0.1)
    work = Work(config, objective, TrainSettings(), precision)
    flops = PairFlops(work)
    for shape in (
        PairShape(1, 23, 5, False, 22),
        PairShape(5, 256, 640, False, 128),
    ):
        batch = objective.synthetic(shape)
        assert flops.training(batch) == pytest.approx(step_figures(work, [shape], None).flops, rel=1e-9)
        assert flops.evaluation(batch) == pytest.approx(evaluation_figures(work, shape, None).flops, rel=1e-9)


def test_inverse_square_root_is_the_papers_schedule() -> None:
    d_model, warmup = 512, 40
    settings = TrainSettings(
        schedule="inverse_sqrt", warmup=f"{warmup} steps", learning_rate=(d_model * warmup) ** -0.5
    )
    for step in (1, 7, 40, 41, 1000):
        paper = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert learning_rate(settings, step - 1, 2000, warmup) == pytest.approx(paper)
        assert learning_rate_within(settings, step - 1, 0.3) == pytest.approx(paper)


def test_evaluation_leaves_dropout_out() -> None:
    model, objective = (
        make_model(CONFIG.model_copy(update={"dropout": 0.5})),
        Seq2SeqObjective(make_pairs(), 2),
    )
    model.train()
    losses = {evaluate(model, objective, range(9), micro_batch=4, precision="fp32")["loss"] for _ in range(2)}
    assert len(losses) == 1
    noisy = {objective.loss_sum(model, objective.batch(range(9)))[0].item() for _ in range(2)}
    assert len(noisy) == 2
