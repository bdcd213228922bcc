from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from arriero.models.decoder import Decoder
from arriero.training.objectives import head
from arriero.training.objectives.base import SCORED_STEP, UNSCORED, Objective, scored_positions
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.dpo import DpoObjective, Pair, answer_log_probs, pair_batch
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.step import accumulate

Make = Callable[..., Decoder]


def gradients(model: Decoder) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        scale = b[name].abs().max()
        assert (a[name] - b[name]).abs().max() <= tolerance * max(1.0, scale), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("block", [64, 64 * 7, 1 << 20])
def test_blocked_loss_is_plain_cross_entropy(
    make_model: Make, tied: bool, block: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(head, "BLOCK_LOGITS", block)
    model = make_model(tie_embeddings=tied)
    ids = torch.randint(0, 64, (3, 20))
    targets = torch.randint(0, 64, (60,))
    plain = F.cross_entropy(model.logits(model.hidden(ids).flatten(0, 1)), targets, reduction="sum")
    (plain / 60).backward()
    expected = gradients(model)
    blocked = head.loss_sum(model, model.hidden(ids).flatten(0, 1), targets)
    (blocked / 60).backward()
    assert blocked.item() == pytest.approx(plain.item(), rel=1e-5)
    assert_close(gradients(model), expected, 1e-5)
    with torch.no_grad():
        assert head.loss_sum(model, model.hidden(ids).flatten(0, 1), targets).item() == pytest.approx(
            plain.item(), rel=1e-5
        )


def test_a_frozen_head_gets_no_gradient(make_model: Make) -> None:
    model = make_model(tie_embeddings=False)
    model.head.weight.requires_grad_(False)
    assert head.head_parameters(model) == []
    head.loss_sum(
        model, model.hidden(torch.zeros(1, 4, dtype=torch.int64))[0], torch.zeros(4, dtype=torch.int64)
    ).backward()
    assert "head.weight" not in gradients(model)


@pytest.mark.parametrize("block", [64, 1 << 22])
def test_log_probs_and_their_gradients_whether_recomputed_or_kept(
    make_model: Make, block: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(head, "BLOCK_LOGITS", block)
    model = make_model()
    ids, targets = torch.randint(0, 64, (2, 20)), torch.randint(0, 64, (40,))
    factors = torch.randn(40)
    assert head.recomputes(40, 64) == (block == 64)
    plain = F.log_softmax(model.logits(model.hidden(ids).flatten(0, 1)), -1).gather(1, targets[:, None])[:, 0]
    (plain * factors).sum().backward()
    expected = gradients(model)
    found = head.log_probs(model, model.hidden(ids).flatten(0, 1), targets)
    (found * factors).sum().backward()
    assert torch.allclose(found, plain, atol=1e-5)
    assert_close(gradients(model), expected, 1e-5)


def test_a_first_token_is_never_scored_and_the_target_is_the_next_token() -> None:
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    positions, targets = scored_positions(ids, np.array([[True, True, False], [True, False, True]]))
    assert positions.tolist()[:2] == [0, 4]
    assert targets.tolist()[:2] == [2, 6]
    assert len(positions) == len(targets) == SCORED_STEP
    assert set(targets.tolist()[2:]) == {UNSCORED}


class Packed:
    """Two documents in one window."""

    ids = np.array([[1, 7, 8, 2, 1, 9, 10, 11, 2]])
    segments = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1]])

    def __len__(self) -> int:
        return 1

    def batch(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.ids, self.segments


def test_every_token_is_scored_but_a_documents_first() -> None:
    batch = CausalObjective(Packed(), 8, document_mask=False).batch([0])
    assert batch.ids.tolist() == [[1, 7, 8, 2, 1, 9, 10, 11]]
    assert batch.positions is None
    assert batch.targets.tolist() == [7, 8, 2, UNSCORED, 9, 10, 11, 2]
    assert batch.scored == 7
    assert batch.segments is None


def test_positions_of_later_rows_count_in_rows_of_the_model(make_model: Make) -> None:
    class Two(Packed):
        def batch(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
            return np.repeat(self.ids, 2, 0), np.repeat(self.segments, 2, 0)

    one, two = CausalObjective(Packed(), 8, False), CausalObjective(Two(), 8, False)
    model = make_model()
    losses = [obj.loss_sum(model, obj.batch([0]))[0].item() for obj in (one, two)]
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-6)


def test_with_the_document_mask_the_loss_is_that_of_each_document_alone(make_model: Make) -> None:
    model = make_model()
    masked = CausalObjective(Packed(), 8, document_mask=True)
    alone = sum(
        F.cross_entropy(model(torch.tensor([doc[:-1]]))[0], torch.tensor(doc[1:]), reduction="sum").item()
        for doc in ([1, 7, 8, 2], [1, 9, 10, 11, 2])
    )
    assert masked.loss_sum(model, masked.batch([0]))[0].item() == pytest.approx(alone, rel=1e-5)
    crossing = CausalObjective(Packed(), 8, document_mask=False)
    assert crossing.loss_sum(model, crossing.batch([0]))[0].item() != pytest.approx(alone, rel=1e-3)


def test_sft_scores_supervised_tokens_only_and_padding_changes_nothing(
    make_model: Make, rows: list[Row]
) -> None:
    model, objective = make_model(), SftObjective(rows)
    together = objective.loss_sum(model, objective.batch(range(len(rows))))[0].item()
    by_hand = 0.0
    for row in rows:
        logits = model(torch.tensor(row.ids)[None])[0]
        losses = F.cross_entropy(logits[:-1], torch.tensor(row.ids[1:]), reduction="none")
        by_hand += (losses * torch.tensor(row.mask[1:])).sum().item()
    assert together == pytest.approx(by_hand, rel=1e-5)
    assert objective.weight(objective.batch(range(len(rows)))) == sum(int(row.mask[1:].sum()) for row in rows)


def make_pairs(rows: list[Row]) -> list[Pair]:
    forced = [Row(row.ids, np.arange(len(row.ids)) >= len(row.ids) // 2) for row in rows]
    return [Pair(forced[i], forced[i + 1]) for i in range(0, len(forced), 2)]


@pytest.mark.parametrize(("smoothing", "nll"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3)])
def test_dpo_is_the_formula_of_the_paper(
    make_model: Make, rows: list[Row], smoothing: float, nll: float
) -> None:
    model, other, pairs, beta = make_model(1), make_model(2), make_pairs(rows), 0.4

    def answer(model: Decoder, row: Row) -> float:
        log_probs = F.log_softmax(model(torch.tensor(row.ids)[None])[0], -1)
        return sum(log_probs[t - 1, row.ids[t]].item() for t in range(1, len(row.ids)) if row.mask[t])

    reference = torch.tensor([[answer(other, p.chosen), answer(other, p.rejected)] for p in pairs])
    objective = DpoObjective(pairs, reference, beta=beta, label_smoothing=smoothing, nll_coef=nll)
    loss, figures = objective.loss_sum(model, objective.batch(range(len(pairs))))
    expected = accuracy = 0.0
    for pair, (ref_chosen, ref_rejected) in zip(pairs, reference.tolist(), strict=True):
        chosen, rejected = answer(model, pair.chosen), answer(model, pair.rejected)
        z = beta * (chosen - ref_chosen - rejected + ref_rejected)
        expected -= (1 - smoothing) * math.log(1 / (1 + math.exp(-z))) + smoothing * math.log(
            1 / (1 + math.exp(z))
        )
        expected -= nll * chosen / pair.chosen.mask[1:].sum()
        accuracy += chosen > rejected
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert figures["preference_accuracy"].item() == accuracy


def test_the_first_dpo_loss_is_ln_2_and_another_reference_is_noticed(
    make_model: Make, rows: list[Row]
) -> None:
    model, pairs = make_model(), make_pairs(rows)
    with torch.no_grad():
        own = (
            answer_log_probs(model, pair_batch(pairs, torch.zeros(2 * len(pairs)), limit=64)).view(2, -1).t()
        )
    for reference, right in ((own, True), (own + torch.tensor([0.5, 0.0]), False)):
        objective = DpoObjective(pairs, reference, beta=0.1, label_smoothing=0.2, nll_coef=1.0)
        _, sums = objective.loss_sum(model, objective.batch(range(len(pairs))))
        means = {name: value.item() / len(pairs) for name, value in sums.items()}
        fault = objective.first_step_fault(means, "fp32")
        assert (fault is None) == right
        assert right or "ln 2" in str(fault)


@pytest.mark.parametrize("kind", ["causal", "sft", "dpo", "dpo+nll"])
def test_micro_batches_do_not_change_the_gradient(
    make_model: Make, causal: CausalObjective, rows: list[Row], kind: str
) -> None:
    model = make_model()
    pairs = make_pairs(rows + rows)
    reference = torch.randn(len(pairs), 2, generator=torch.Generator().manual_seed(0)) - 40
    objective: Objective = {
        "causal": causal,
        "sft": SftObjective(rows),
        "dpo": DpoObjective(pairs, reference, beta=0.1, label_smoothing=0.0, nll_coef=0.0),
        "dpo+nll": DpoObjective(pairs, reference, beta=0.1, label_smoothing=0.1, nll_coef=0.5),
    }[kind]
    found = []
    for size in (1, 2, 8):
        batches = [objective.batch(range(start, start + size)) for start in range(0, 8, size)]
        weight = sum(objective.weight(batch) for batch in batches)
        sums = accumulate(model, objective, batches, weight, "fp32")
        found.append((sums["loss"].item() / weight, gradients(model)))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        assert_close(gradient, found[0][1], 1e-6)
