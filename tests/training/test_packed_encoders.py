"""Documents of an encoder that share a row: the same loss and gradients as each by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from arriero.models.encoder import Encoder
from arriero.models.families import get_family
from arriero.training.encoder_settings import MaskingSettings
from arriero.training.objectives.masked import MaskedObjective, hidden_of
from arriero.training.objectives.masked_rows import DocumentChunks, FullWindows, Sentences
from arriero.training.objectives.masking import Masking
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate
from arriero.training.traced import TracedFlops, Work, step_figures

CLS, SEP, MASK, PAD, VOCAB = 1, 2, 3, 0, 60
LENGTHS = [37, 190, 60, 45, 100, 144, 33, 64, 50, 231, 118, 80]
MASKING = Masking(MASK, np.arange(4, VOCAB), np.arange(VOCAB) < 4)
NONE = np.zeros(VOCAB, dtype=bool)


class Texts:
    def __init__(self) -> None:
        draw = np.random.default_rng(1)
        texts = [np.concatenate([[CLS], draw.integers(4, VOCAB, n), [SEP]]) for n in LENGTHS]
        self.documents_starts = np.cumsum([0, *map(len, texts)])
        self.text = np.concatenate(texts).astype(np.int64)

    def tokens(self, start: int, stop: int) -> np.ndarray:
        return self.text[start:stop]


def objective(room: int, **options: Any) -> MaskedObjective:
    rows = DocumentChunks(Texts(), 256, CLS, SEP, Sentences(NONE, NONE))
    return MaskedObjective(rows, MASKING, PAD, seed=3, room=room, **options)


def model_of(family: str) -> Encoder:
    config = get_family(family).config(
        vocab_size=VOCAB, d_model=32, n_layers=2, n_heads=4, d_ff=64, context_length=260, dropout=0.0,
        task="masked_lm", pad_id=PAD, positions="skip_padding" if family == "roberta" else "absolute",
        **({"n_groups": 1, "embedding_size": 16, "embedding_projection": "after_norm"} if family == "albert" else {}),
    )  # fmt: skip
    model = Encoder(config)
    model.init_weights(2)
    return model


def gradients(model: Encoder, goal: MaskedObjective, parts: list[list[int]]) -> tuple[float, list[Any]]:
    batches = [goal.batch(part) for part in parts]
    weight = sum(goal.weight(batch) for batch in batches)
    model.zero_grad()
    loss = float(accumulate(model, goal, batches, weight, "fp32")["loss"]) / weight
    return loss, [None if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("family", ["bert", "roberta", "albert"])
@pytest.mark.parametrize("size", [5, 12])
def test_packed_documents_train_like_each_alone(family: str, size: int) -> None:
    model, packed, plain = model_of(family), objective(4096), objective(0)
    numbers = list(range(len(packed), 2 * len(packed)))  # the second epoch: masks are drawn anew
    parts = packed.parts(numbers, size)
    assert sorted(n for part in parts for n in part) == numbers
    assert all(packed.batch(part).segments is not None for part in parts)
    loss, found = gradients(model, packed, parts)
    alone_loss, alone = gradients(model, plain, [[n] for n in numbers])
    assert abs(loss - alone_loss) < 1e-5
    for ours, theirs in zip(found, alone, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_packing_leaves_less_to_work_out_and_the_plan_sees_it() -> None:
    model, packed, plain = model_of("bert"), objective(4096), objective(0)
    batch, padded = packed.batch(range(12)), plain.batch(range(12))
    assert batch.tokens == padded.tokens == sum(n + 2 for n in LENGTHS)
    assert batch.ids.numel() < 1.05 * batch.tokens and padded.ids.numel() > 2 * batch.tokens
    assert torch.equal(batch.targets, padded.targets)
    work = Work(model.config, packed, TrainSettings(), "fp32")
    counted = TracedFlops(work).training(batch)
    assert step_figures(work, [batch.shape], None).flops == pytest.approx(counted, rel=0.02)


def test_documents_are_where_their_hidden_tokens_are() -> None:
    packed = objective(512)
    batch = packed.batch(range(12))
    assert batch.ids.shape[0] > 1 and batch.positions is not None and batch.segments is not None
    real = batch.targets != -100
    places, segments = batch.positions[real], batch.segments.flatten()
    assert bool((segments[places] >= 0).all())
    starts = (batch.ids == CLS).flatten()
    assert int(starts.sum()) == 12  # [CLS] is never hidden, and stands at the start of each document
    model = model_of("bert").eval()
    with torch.no_grad():
        hidden = hidden_of(model, batch).flatten(0, 1)
        first = hidden_of(model, packed.batch([4]))[0, : LENGTHS[4] + 2]
        where = int((batch.ids == CLS).flatten().nonzero().flatten()[0])
        lengths = [n + 2 for n in LENGTHS]
        assert any(
            torch.allclose(hidden[start : start + lengths[4]], first, atol=1e-5)
            for start in (batch.ids == CLS).flatten().nonzero().flatten().tolist()
        ), where


def test_full_windows_and_pairs_are_as_they_were() -> None:
    windows = FullWindows(Texts(), 64, CLS, SEP)
    goal = MaskedObjective(windows, MASKING, PAD, seed=1, room=4096)
    assert goal.batch(range(4)).segments is None
    assert MaskingSettings().packing


def test_only_plain_attention_takes_documents_end_to_end() -> None:
    assert model_of("roberta").takes_packed
    deberta = get_family("deberta").config
    longformer = get_family("longformer").config
    for config in (deberta, longformer):
        values: dict[str, Any] = {"vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 64}
        if config is longformer:
            values |= {"windows": (8, 8), "attention": "window"}
        else:
            values |= {"attention": "disentangled"}
        assert not config(**values, context_length=64, pad_id=PAD).takes_packed
