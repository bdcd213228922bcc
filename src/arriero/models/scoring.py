"""Log-probabilities of given texts under a causal network, in bounded memory.

A network with a longest sequence (attention) scores rows whole; one that carries a state or a window from token to
token scores texts of any length, a stretch of all rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from arriero.errors import ArrieroError

TOKENS_PER_BATCH = 4096
LOGITS_PER_CHUNK = 1 << 22
"""Full-vocabulary scores held at once: 16 MiB in float32."""
CARRIED_ROWS = 64
"""Rows at once of a network that carries a state: its steps come one after the other, so rows fill the cores."""


def token_logprobs(model: Any, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Natural-log p(x_t | x_<t) for t >= 1 of every sequence: float64 [len(ids) - 1] each, in the order given.

    Sequences of like length are batched and padded on the right, where a causal network can't see it.

    Args:
        model: a causal network: ``config``, ``hidden``, ``logits``; with ``config.context_length`` None also
            ``hidden_with_state``.

    Raises:
        ArrieroError: a sequence is longer than the context, or an id is outside the vocabulary.
    """
    _check(model, sequences)
    results = [np.zeros(0) for _ in sequences]
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in _batches(sequences, carries(model)):
                rows = [sequences[i] for i in batch]
                scored = _score_carried(model, rows) if carries(model) else _score(model, rows)
                for index, values in zip(batch, scored, strict=True):
                    results[index] = values
    finally:
        model.train(training)
    return results


def carries(model: Any) -> bool:
    """True for a network without a longest sequence, which hands a state on from token to token."""
    return model.config.context_length is None


def _check(model: Any, sequences: Sequence[Sequence[int]]) -> None:
    config = model.config
    for index, ids in enumerate(sequences):
        if config.context_length is not None and len(ids) > config.context_length:
            raise ArrieroError(
                f"sequence {index} has {len(ids)} tokens, more than the model's context of {config.context_length}"
            )
        if len(ids) and not 0 <= min(ids) <= max(ids) < config.vocab_size:
            raise ArrieroError(f"sequence {index} has an id outside the vocabulary of {config.vocab_size}")


def _batches(sequences: Sequence[Sequence[int]], carried: bool) -> Iterator[list[int]]:
    """Indices of sequences with something to score, longest first: at most TOKENS_PER_BATCH padded tokens, or
    CARRIED_ROWS of any length."""
    order = sorted(
        (i for i in range(len(sequences)) if len(sequences[i]) > 1), key=lambda i: -len(sequences[i])
    )
    start = 0
    while start < len(order):
        size = CARRIED_ROWS if carried else max(1, TOKENS_PER_BATCH // len(sequences[order[start]]))
        yield order[start : start + size]
        start += size


def _score(model: Any, batch: list[Sequence[int]]) -> list[np.ndarray]:
    values = batch_logprobs(model, _padded(model, batch)).cpu().numpy()
    return [values[row, : len(ids) - 1].copy() for row, ids in enumerate(batch)]


def _score_carried(model: Any, batch: list[Sequence[int]]) -> list[np.ndarray]:
    """Stretch by stretch of all rows that go on, longest first; the state is handed from one to the next."""
    ids = _padded(model, batch)
    stretch = max(1, TOKENS_PER_BATCH // len(batch))
    state = model.initial_state(len(batch))
    parts: list[list[np.ndarray]] = [[] for _ in batch]
    for start in range(0, ids.shape[1] - 1, stretch):
        active = sum(len(row) - 1 > start for row in batch)
        given = ids[:active, start : start + stretch + 1]
        hidden, state = model.hidden_with_state(given[:, :-1], tuple(part[:active] for part in state))
        values = chosen_logprobs(model, hidden, given[:, 1:]).cpu().numpy()
        for row in range(active):
            parts[row].append(values[row, : len(batch[row]) - 1 - start])
    return [np.concatenate(row) for row in parts]


def _padded(model: Any, batch: list[Sequence[int]]) -> torch.Tensor:
    padded = np.zeros((len(batch), max(len(ids) for ids in batch)), dtype=np.int64)
    for row, ids in enumerate(batch):
        padded[row, : len(ids)] = ids
    return torch.from_numpy(padded).to(next(model.parameters()).device)


def batch_logprobs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Natural-log p(ids[:, t] | ids[:, <t]) for t >= 1: ids int64 [B, T] -> float64 [B, T - 1].

    All the arithmetic of scoring, on tensors alone: the plan of an evaluation traces it.
    """
    return chosen_logprobs(model, model.hidden(ids[:, :-1]), ids[:, 1:])


def chosen_logprobs(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Natural-log probability of targets [B, T] under the head's logits of hidden [B, T, d]: float64 [B, T]."""
    flat, wanted = hidden.flatten(0, 1), targets.flatten()
    rows = max(1, LOGITS_PER_CHUNK // model.config.vocab_size)
    parts = []
    for start in range(0, len(wanted), rows):
        logits = model.logits(flat[start : start + rows]).float()
        chosen = logits.gather(1, wanted[start : start + rows, None]).squeeze(1)
        parts.append((chosen - logits.logsumexp(dim=-1)).double())
    return torch.cat(parts).view(len(targets), -1)
