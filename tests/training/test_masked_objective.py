"""Masked rows and pairs of segments as batches, their losses, and that a resumed run has the same masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from arriero.errors import ArrieroError
from arriero.models.encoder import Encoder
from arriero.models.encoder_config import EncoderConfig
from arriero.training.batches import SampleOrder
from arriero.training.loop import train
from arriero.training.objectives.draws import Draws
from arriero.training.objectives.masked import MaskedObjective
from arriero.training.objectives.masked_rows import DocumentChunks, FullWindows, PlannedDocuments, Sentences
from arriero.training.objectives.masking import Masking
from arriero.training.objectives.sentence_pairs import SentencePairs
from arriero.training.settings import TrainSettings
from arriero.training.traced import TracedFlops, Work, step_figures

CLS, SEP, MASK, PAD, VOCAB, FULL_STOP, QUOTE = 1, 2, 3, 0, 60, 10, 11
ENDS, CLOSES = np.arange(VOCAB) == FULL_STOP, np.arange(VOCAB) == QUOTE
SENTENCES = Sentences(ENDS, CLOSES)
MASKING = Masking(MASK, np.arange(4, VOCAB), np.arange(VOCAB) < 4)


class Texts:
    """Documents in memory."""

    def __init__(self, documents: list[list[int]]) -> None:
        whole = [[CLS, *document, SEP] for document in documents]
        self.documents_starts = np.cumsum([0, *map(len, whole)])
        self._ids = np.array([id for document in whole for id in document], dtype=np.int64)

    def tokens(self, start: int, stop: int) -> np.ndarray:
        return self._ids[start:stop]


def made_up(count: int = 12, seed: int = 0) -> Texts:
    """Documents of sentences of 2 to 6 tokens; document d uses tokens of its own."""
    rng = np.random.default_rng(seed)
    documents = []
    for d in range(count):
        sentences = [[*rng.integers(12 + 4 * (d % 12), 16 + 4 * (d % 12), rng.integers(2, 7)), FULL_STOP]
                     for _ in range(rng.integers(3, 12))]  # fmt: skip
        documents.append([int(id) for sentence in sentences for id in sentence])
    return Texts(documents)


def model_of(task: str = "masked_lm", **changes: Any) -> Encoder:
    config = EncoderConfig(
        vocab_size=VOCAB, d_model=24, n_layers=2, n_heads=2, d_ff=48, context_length=40, task=task, init_std=0.1, **changes
    )  # fmt: skip
    model = Encoder(config)
    model.init_weights(0)
    return model


def test_sentences_end_after_a_full_stop_and_its_closing_quotation_mark() -> None:
    tokens = np.array([20, FULL_STOP, 21, FULL_STOP, QUOTE, 22, QUOTE, 23, FULL_STOP])
    assert SENTENCES.borders(tokens).tolist() == [2, 5]


def test_windows_hold_all_the_text_once_without_the_documents_first_tokens() -> None:
    texts = made_up()
    rows = FullWindows(texts, 16, CLS, SEP)
    found = [rows.row(i, Draws(0, 0, i)).ids for i in range(len(rows))]
    assert all(row[0] == CLS and row[-1] == SEP and len(row) == rows.length(i) for i, row in enumerate(found))
    text = np.concatenate([row[1:-1] for row in found])
    assert (text == texts._ids[texts._ids != CLS]).all()
    assert rows.mean_length() == pytest.approx(np.mean([len(row) for row in found]))


def test_chunks_are_whole_sentences_of_one_document() -> None:
    texts = made_up()
    rows = DocumentChunks(texts, 20, CLS, SEP, SENTENCES)
    assert (
        np.concatenate([rows.chunk(i) for i in range(len(rows))]).tolist()
        == texts._ids[texts._ids > 3].tolist()
    )
    for i in range(len(rows)):
        row = rows.row(i, Draws(0, 0, i)).ids
        assert len(row) == rows.length(i) <= 20 and row[-2] == FULL_STOP
        assert len({(id - 12) // 4 for id in row[1:-1] if id != FULL_STOP}) == 1


def test_a_sentence_that_is_too_long_is_cut() -> None:
    rows = DocumentChunks(Texts([[20] * 50 + [FULL_STOP]]), 22, CLS, SEP, SENTENCES)
    assert [len(rows.chunk(i)) for i in range(len(rows))] == [20, 20, 11]


@pytest.mark.parametrize("task", ["next_sentence", "sentence_order"])
def test_pairs_are_labelled_as_they_are_made(task: Any) -> None:
    texts = made_up(30)
    rows = SentencePairs(texts, 24, CLS, SEP, SENTENCES, task)
    labels, lengths = [], {0: [], 1: []}
    for epoch in range(40):
        for i in range(len(rows)):
            row = rows.row(i, Draws(5, epoch, i))
            first, second = row.ids[1 : np.flatnonzero(row.ids == SEP)[0]], row.ids[row.types == 1][:-1]
            assert row.ids[0] == CLS and (row.ids == SEP).sum() == 2 and len(row.ids) <= 24
            assert row.types.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
            chunk = rows.chunk(i)
            if row.pair == 0:
                assert np.concatenate([first, second]).tolist() == chunk.tolist()
            elif task == "sentence_order":
                assert np.concatenate([second, first]).tolist() == chunk.tolist()
            else:
                assert chunk[: len(first)].tolist() == first.tolist()
                assert set(_documents_with(texts, second)) - {int(rows.document_of[i])}
            labels.append(row.pair)
            lengths[row.pair].append(len(row.ids))
    assert abs(np.mean(labels) - 0.5) < 3 * 0.5 / len(labels) ** 0.5
    assert abs(np.mean(lengths[0]) - np.mean(lengths[1])) < 0.6, "the length must not tell the label"


def _documents_with(texts: Texts, tokens: np.ndarray) -> list[int]:
    """Documents in which these tokens follow each other."""
    starts, found = texts.documents_starts, []
    for d in range(len(starts) - 1):
        text = texts.tokens(int(starts[d]), int(starts[d + 1])).tolist()
        n = len(tokens)
        if any(text[k : k + n] == tokens.tolist() for k in range(len(text) - n + 1)):
            found.append(d)
    return found


def test_a_single_document_has_no_other_to_draw_from() -> None:
    with pytest.raises(ArrieroError, match="single one"):
        SentencePairs(made_up(1), 24, CLS, SEP, SENTENCES, "next_sentence")


def objective(paired: bool = False, **options: Any) -> MaskedObjective:
    texts = made_up()
    rows: Any = (
        SentencePairs(texts, 24, CLS, SEP, SENTENCES, "sentence_order")
        if paired
        else DocumentChunks(texts, 20, CLS, SEP, SENTENCES)
    )
    return MaskedObjective(rows, MASKING, PAD, **{"seed": 3, **options})


@pytest.mark.parametrize("paired", [False, True])
def test_the_loss_is_that_of_the_models_own_head_on_the_hidden_tokens(paired: bool) -> None:
    goal, model = objective(paired), model_of("pretraining" if paired else "masked_lm")
    batch = goal.batch([0, 5, 7])
    assert batch.attention_mask is not None and batch.tokens == int(batch.attention_mask.sum())
    loss, figures = goal.loss_sum(model, batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    outputs = model(batch.ids, attention_mask=batch.attention_mask, segments=batch.types)
    words = outputs[0] if paired else outputs
    labels = torch.full((batch.ids.numel(),), -100)
    real = batch.targets >= 0
    labels[batch.positions[real]] = batch.targets[real]
    wanted = F.cross_entropy(words.flatten(0, 1), labels, reduction="sum")
    if paired:
        weight = 0.15 * goal.tokens_per_sample()
        wanted = wanted + weight * F.cross_entropy(outputs[1], batch.pair, reduction="sum")
        torch.testing.assert_close(figures["masked_loss"] + figures["pair_loss"], loss.detach())
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-4)
    for name, grad in found.items():
        torch.testing.assert_close(grad, model.get_parameter(name).grad, rtol=1e-4, atol=1e-4)
    assert goal.weight(batch) == int(real.sum()) == batch.scored


def test_dynamic_masks_change_with_the_epoch_and_static_ones_come_round() -> None:
    n = len(objective())
    places = lambda goal, epoch: goal.sample(epoch * n + 4)[2].tolist()  # noqa: E731
    dynamic, static = objective(), objective(copies=3)
    assert len({tuple(places(dynamic, epoch)) for epoch in range(12)}) > 6
    assert [places(static, epoch) for epoch in range(3)] == [places(static, epoch) for epoch in range(3, 6)]
    assert places(static, 0) == places(dynamic, 0) and places(static, 3) != places(dynamic, 3)


def test_the_loop_gives_the_epoch_with_the_index() -> None:
    plain, numbered = SampleOrder(7, 1), SampleOrder(7, 1, numbered=True)
    assert [i % 7 for i in numbered.take(3, 30)] == plain.take(3, 30)
    assert [i // 7 for i in numbered.take(0, 21)] == [0] * 7 + [1] * 7 + [2] * 7


def test_a_segment_from_elsewhere_may_make_a_row_longer_than_its_own_text() -> None:
    rows = SentencePairs(made_up(30, seed=4), 60, CLS, SEP, SENTENCES, "next_sentence")
    goal = MaskedObjective(rows, MASKING, PAD, seed=1)
    n = len(goal)
    for epoch in range(20):
        for index in range(n):
            batch = goal.batch([epoch * n + index])
            assert batch.ids.shape[1] >= batch.tokens <= rows.longest


def test_a_masks_row_does_not_depend_on_its_batch() -> None:
    goal = objective(paired=True)
    whole, alone = goal.batch([2, 9, 30]), goal.batch([9])
    kept = int(alone.ids.shape[1])
    real = alone.attention_mask[0] if alone.attention_mask is not None else slice(None)
    assert whole.ids[1, :kept][real].tolist() == alone.ids[0][real].tolist()
    assert whole.pair is not None and alone.pair is not None and whole.pair[1] == alone.pair[0]


def test_a_stopped_run_ends_with_the_bits_of_an_uninterrupted_one(make_context: Any, fp32: Any) -> None:
    """Over two epochs, so that masks are drawn anew after the stop."""
    from arriero.errors import Interrupted

    settings = TrainSettings(duration="3 epochs", batch_size=5, learning_rate=3e-3, precision="fp32")

    def weights(stop_at: int | None, context: Any) -> list[torch.Tensor]:
        model, goal = model_of("pretraining", dropout=0.1), objective(paired=True)
        context.stop_at = stop_at
        try:
            train(model, goal, settings, context, arithmetic=fp32, heldout=objective(paired=True, seed=0))
        except Interrupted:
            context.stop_at, context.done = None, []
            return weights(None, context)
        return [p.detach() for p in model.parameters()]

    whole, parted = weights(None, make_context()), weights(11, make_context())
    assert all(torch.equal(a, b) for a, b in zip(whole, parted, strict=True))


@pytest.mark.parametrize("paired", [False, True])
def test_the_count_of_arithmetic_is_that_of_the_traced_step(paired: bool) -> None:
    goal, model = objective(paired), model_of("pretraining" if paired else "masked_lm")
    settings = TrainSettings(duration="3 steps", precision="fp32")
    work = Work(model.config, goal, settings, "fp32")
    shape = goal.batch([0, 1, 2]).shape
    assert TracedFlops(work).training(goal.synthetic(shape)) == pytest.approx(
        step_figures(work, [shape], None).flops,
        rel=1e-3 if paired else 1e-6,  # the pooler is counted by the token
    )


def test_a_plan_knows_rows_by_their_number_alone() -> None:
    rows = FullWindows(PlannedDocuments(10, 1000), 34, CLS, SEP)
    assert len(rows) == 31 and rows.row(0, Draws(0, 0, 0)).ids.tolist() == [CLS, *[0] * 32, SEP]
