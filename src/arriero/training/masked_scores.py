"""What an encoder tells of held-out text: hidden tokens, beside two counts of the training text, and pairs of segments."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from arriero.training.evaluation import evaluation_indices
from arriero.training.micro_batch import micro_batch_size
from arriero.training.objectives import head
from arriero.training.objectives.base import UNSCORED
from arriero.training.objectives.masked import MaskedBatch, MaskedObjective, hidden_of
from arriero.training.settings import TrainSettings

TASKS = ("next_sentence", "sentence_order")
_Z = 1.959963984540054
"""Of a two-sided interval of 95 %."""


class TrainingText(Protocol):
    """Tokens that are counted (data.shards.TokenShards)."""

    @property
    def n_tokens(self) -> int: ...

    def tokens(self, start: int, stop: int) -> np.ndarray: ...


class TwoSidedCounts:
    """The likeliest token between two others, from counts: of both neighbours, else of one, else of none.

    With both neighbours seen in the training text around the same place, the most frequent token between them; else,
    of the most frequent token after the left one and before the right one, that with the larger share of its
    neighbour's occurrences; else the most frequent token. Ties go to the smaller id.
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int) -> None:
        self._size = vocab_size
        left, middle, right = tokens[:-2], tokens[1:-1], tokens[2:]
        self.unigram = int(np.bincount(tokens, minlength=vocab_size).argmax())
        self._both = _most_frequent(left * vocab_size + right, middle, vocab_size)
        self._after = _most_frequent(tokens[:-1], tokens[1:], vocab_size)
        self._before = _most_frequent(tokens[1:], tokens[:-1], vocab_size)

    def predict(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """int64 [N]: the likeliest token between left [N] and right [N]."""
        after, share_after = _look_up(self._after, left)
        before, share_before = _look_up(self._before, right)
        found = np.where(share_after >= share_before, after, before)
        found = np.where((after < 0) & (before < 0), self.unigram, found)
        both, _ = _look_up(self._both, left * self._size + right)
        return np.where(both >= 0, both, found)


_Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def _most_frequent(contexts: np.ndarray, tokens: np.ndarray, vocab_size: int) -> _Table:
    """(contexts in order, the most frequent token after each, its share), all [C]."""
    pairs, counts = np.unique(contexts.astype(np.int64) * vocab_size + tokens, return_counts=True)
    context, token = np.divmod(pairs, vocab_size)
    order = np.lexsort((token, -counts, context))
    known, first = np.unique(context[order], return_index=True)
    totals = np.add.reduceat(counts[order], first) if len(first) else counts
    best = order[first]
    return known, token[best], counts[best] / totals


def _look_up(table: _Table, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(token, its share) of each context; -1 and -1 where it never came."""
    known, tokens, shares = table
    if not len(known):
        none = np.full(len(contexts), -1)
        return none, none.astype(float)
    at = np.minimum(np.searchsorted(known, contexts), len(known) - 1)
    seen = known[at] == contexts
    return np.where(seen, tokens[at], -1), np.where(seen, shares[at], -1.0)


def ratio_interval(right: np.ndarray, of: np.ndarray) -> dict[str, float]:
    """``right.sum() / of.sum()`` with its interval of 95 %, over rows [N]: tokens of a row hang together.

    The ratio's standard error is sqrt(sum (right_i - ratio of_i)^2) / sum of_i (Cochran 1977, section 2.11).
    """
    total = max(1.0, float(of.sum()))
    ratio = float(right.sum()) / total
    error = _Z * math.sqrt(float(((right - ratio * of) ** 2).sum())) / total
    return {"accuracy": ratio, "low": ratio - error, "high": ratio + error}


def wilson_interval(right: int, n: int) -> dict[str, float]:
    """A share with its interval of 95 % (Wilson 1927), for items that do not depend on each other."""
    if not n:
        return {"accuracy": 0.0, "low": 0.0, "high": 1.0}
    share, z2 = right / n, _Z**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return {"accuracy": share, "low": middle - half, "high": middle + half}


def masked_scores(
    model: Any, heldout: MaskedObjective, text: TrainingText, settings: TrainSettings, vocab_size: int
) -> dict[str, Any]:
    """Shares of held-out hidden tokens that are told right: by the model, and by two counts of ``text``.

    The counts see a token's true neighbours even where these are hidden from the model.
    """
    counts = TwoSidedCounts(text.tokens(0, min(text.n_tokens, 20_000_000)), vocab_size)
    right: list[tuple[int, int, int, int]] = []
    loss = 0.0
    for numbers, batch, logits in _scored(model, heldout, settings):
        loss += float(F.cross_entropy(logits.float(), batch.targets, reduction="sum", ignore_index=UNSCORED))
        guesses = logits.argmax(dim=1).cpu().numpy()
        start = 0
        for number in numbers:
            row, _, places = heldout.sample(number)
            truth = row.ids[places]
            told = guesses[start : start + len(places)]
            between = counts.predict(row.ids[places - 1], row.ids[places + 1])
            start += len(places)
            right.append(
                (int((told == truth).sum()), int((between == truth).sum()),
                 int((truth == counts.unigram).sum()), len(places))
            )  # fmt: skip
    table = np.array(right, dtype=np.float64).reshape(-1, 4)
    of = table[:, 3]
    named = {name: ratio_interval(table[:, i], of) for i, name in enumerate(("model", "trigram", "unigram"))}
    return {
        "loss": loss / max(1.0, float(of.sum())), "tokens": int(of.sum()), "rows": len(table), **named,
        "over_trigram": ratio_interval(table[:, 0] - table[:, 1], of),
    }  # fmt: skip


def pair_scores(model: Any, heldout: MaskedObjective, settings: TrainSettings) -> dict[str, Any]:
    """Share of held-out pairs of segments whose label is told right, with its interval; tokens are hidden as in
    training."""
    right = n = 0
    for numbers, batch, _ in _scored(model, heldout, settings, words=False):
        hidden = hidden_of(model, batch)
        right += int((model.pair_logits(hidden).argmax(dim=1) == batch.pair).sum())
        n += len(numbers)
    return {**wilson_interval(right, n), "n": n}


def _scored(model: Any, heldout: MaskedObjective, settings: TrainSettings, *, words: bool = True) -> Any:
    """(numbers of the rows, their batch, logits [S, V] of its hidden tokens) of each micro-batch, without gradients."""
    device = next(model.parameters()).device
    numbers = evaluation_indices(heldout, 0)
    size = micro_batch_size(settings, heldout.tokens_per_sample())
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for part in heldout.parts(numbers, size):
                batch: MaskedBatch = heldout.batch(part).to(device)
                logits = torch.empty(0)
                if words:
                    logits = model.word_logits(head.chosen(hidden_of(model, batch), batch.positions))
                yield part, batch, logits
    finally:
        model.train(was_training)
