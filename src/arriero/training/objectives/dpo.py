"""Direct preference optimization (Rafailov et al. 2023): make the preferred answer likelier than the other one.

With d = (log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected)), sums over answer tokens,
the loss of a pair is -log sigmoid(beta d); with label smoothing e (cDPO, Mitchell 2023) it is
-(1 - e) log sigmoid(beta d) - e log sigmoid(-beta d). An optional term adds the chosen answer's mean negative
log-probability a token, pair by pair (Pang et al. 2024, equation 1), so that it does not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from arriero.training.objectives import head
from arriero.training.objectives.base import Batch, Objective, Shape, scored_positions
from arriero.training.objectives.sft import Row, pad_rows

if TYPE_CHECKING:
    from arriero.training.precision import Precision

FIRST_LOSS_TOLERANCE = {"fp32": 1e-5, "bf16": 1e-3, "fp8": 5e-2}


@dataclass(frozen=True)
class Pair:
    """A prompt with its two answers, each rendered as a whole conversation."""

    chosen: Row
    rejected: Row


@dataclass(frozen=True)
class PairBatch(Batch):
    """``ids`` holds the B chosen rows, then the B rejected ones.

    Attributes:
        rows: int64 [S]: the row of each scored position.
        lengths: fp32 [2 B]: scored tokens of each row.
        reference: fp32 [2 B]: the reference's summed log-probability of each row's answer.
    """

    rows: torch.Tensor
    lengths: torch.Tensor
    reference: torch.Tensor


class DpoObjective(Objective):
    """The sigmoid loss over preference pairs; its weight is the number of pairs.

    Args:
        pairs: the rendered pairs.
        reference: fp32 [n, 2], summed log-probabilities of the chosen and the rejected answers under the model
            that training starts from (:func:`answer_log_probs`).
        beta: strength of the pull towards the reference.
        label_smoothing: share of the preferences taken to be the wrong way round, below 0.5.
        nll_coef: weight of the chosen answer's negative log-probability a token.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        reference: torch.Tensor,
        *,
        beta: float,
        label_smoothing: float,
        nll_coef: float,
    ) -> None:
        self._pairs = pairs
        self._longest = max(map(pair_length, pairs), default=0)
        self._reference = reference
        self._beta = beta
        self._smoothing = label_smoothing
        self._nll_coef = nll_coef

    def __len__(self) -> int:
        return len(self._pairs)

    def tokens_per_sample(self) -> float:
        return sum(len(p.chosen.ids) + len(p.rejected.ids) for p in self._pairs) / max(1, len(self._pairs))

    def length(self, index: int) -> int:
        return pair_length(self._pairs[index])

    def weight(self, batch: Batch) -> int:
        """Pairs."""
        return batch.ids.shape[0] // 2

    def batch(self, indices: Sequence[int]) -> PairBatch:
        reference = self._reference[torch.tensor(list(indices))].t().reshape(-1)
        return pair_batch([self._pairs[i] for i in indices], reference, self._longest)

    def synthetic(self, shape: Shape) -> PairBatch:
        """``shape.rows`` counts both rows of each pair."""
        plain = super().synthetic(shape)
        return PairBatch(
            **vars(plain), rows=torch.zeros(shape.scored, dtype=torch.int64), lengths=torch.ones(shape.rows),
            reference=torch.zeros(shape.rows),
        )  # fmt: skip

    def head_recomputed(self, scored: int, vocab_size: int) -> int:
        return int(head.recomputes(scored, vocab_size))

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert isinstance(batch, PairBatch)
        answers = answer_log_probs(model, batch)
        chosen, rejected = answers.chunk(2)
        gains = answers - batch.reference
        logits = self._beta * (gains[: len(chosen)] - gains[len(chosen) :])
        preference = -(1 - self._smoothing) * F.logsigmoid(logits) - self._smoothing * F.logsigmoid(-logits)
        loss = preference
        if self._nll_coef:
            loss = loss - self._nll_coef * chosen / batch.lengths[: len(chosen)]
        means = answers / batch.lengths
        figures = {
            "preference_loss": preference,
            "margin": logits,
            "reward_accuracy": (logits > 0).float(),
            "preference_accuracy": (chosen > rejected).float(),
            "preference_accuracy_by_mean": (means[: len(chosen)] > means[len(chosen) :]).float(),
            "chosen_logprob": chosen,
            "rejected_logprob": rejected,
        }
        return loss.sum(), {name: value.detach().sum() for name, value in figures.items()}

    def first_step_fault(self, means: dict[str, float], precision: Precision) -> str | None:
        """Before any update the policy is its own reference, so d = 0 and the loss is ln 2 whatever the data."""
        found, tolerance = means["preference_loss"], FIRST_LOSS_TOLERANCE[precision]
        if abs(found - math.log(2)) <= tolerance:
            return None
        return (
            f"the first DPO loss is {found:.6f}, not ln 2 = {math.log(2):.6f} (tolerance {tolerance:g}): the reference "
            "log-probabilities are not those of the model that training starts from; remove the run's state folder "
            "to have them computed again"
        )


def pair_length(pair: Pair) -> int:
    """Tokens of the longer of the two rows, which decides on the padding."""
    return max(len(pair.chosen.ids), len(pair.rejected.ids))


def pair_batch(pairs: Sequence[Pair], reference: torch.Tensor, limit: int) -> PairBatch:
    """Tensors of ``pairs``; ``reference`` is fp32 [2 B], the chosen answers first; ``limit`` as in pad_rows."""
    rows = [p.chosen for p in pairs] + [p.rejected for p in pairs]
    ids, scored = pad_rows(rows, limit)
    positions, targets = scored_positions(ids, scored)
    return PairBatch(
        ids=torch.from_numpy(ids), positions=torch.from_numpy(positions), targets=torch.from_numpy(targets),
        scored=int(scored[:, 1:].sum()),
        segments=None, tokens=sum(len(row.ids) for row in rows), rows=torch.from_numpy(positions // ids.shape[1]),
        lengths=torch.from_numpy(scored[:, 1:].sum(axis=1).astype(np.float32)), reference=reference,
    )  # fmt: skip


def answer_log_probs(model: Any, batch: PairBatch) -> torch.Tensor:
    """Summed log-probability of each row's answer, fp32 [2 B]; only answer positions go through the head."""
    hidden = model.hidden(batch.ids)
    each = head.log_probs(model, head.chosen(hidden, batch.positions), batch.targets)
    return torch.zeros(batch.ids.shape[0], dtype=torch.float32, device=each.device).index_add(
        0, batch.rows, each
    )
