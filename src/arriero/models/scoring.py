"""Log-probabilities of given texts under a decoder, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder

TOKENS_PER_BATCH = 4096
LOGITS_PER_CHUNK = 1 << 22
"""Full-vocabulary scores held at once: 16 MiB in float32."""


def token_logprobs(model: Decoder, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Natural-log p(x_t | x_<t) for t >= 1 of every sequence: float64 [len(ids) - 1] each, in the order given.

    Sequences of like length are batched and padded on the right, where causal attention can't see it.

    Raises:
        ArrieroError: a sequence is longer than the context, or an id is outside the vocabulary.
    """
    _check(model, sequences)
    results = [np.zeros(0) for _ in sequences]
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in _batches(sequences):
                for index, values in zip(batch, _score(model, [sequences[i] for i in batch]), strict=True):
                    results[index] = values
    finally:
        model.train(training)
    return results


def _check(model: Decoder, sequences: Sequence[Sequence[int]]) -> None:
    config = model.config
    for index, ids in enumerate(sequences):
        if len(ids) > config.context_length:
            raise ArrieroError(
                f"sequence {index} has {len(ids)} tokens, more than the model's context of {config.context_length}"
            )
        if len(ids) and not 0 <= min(ids) <= max(ids) < config.vocab_size:
            raise ArrieroError(f"sequence {index} has an id outside the vocabulary of {config.vocab_size}")


def _batches(sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of sequences with something to score, longest first, at most TOKENS_PER_BATCH padded tokens."""
    order = sorted(
        (i for i in range(len(sequences)) if len(sequences[i]) > 1), key=lambda i: -len(sequences[i])
    )
    start = 0
    while start < len(order):
        size = max(1, TOKENS_PER_BATCH // len(sequences[order[start]]))
        yield order[start : start + size]
        start += size


def _score(model: Decoder, batch: list[Sequence[int]]) -> list[np.ndarray]:
    lengths = [len(ids) for ids in batch]
    padded = np.zeros((len(batch), max(lengths)), dtype=np.int64)
    for row, ids in enumerate(batch):
        padded[row, : len(ids)] = ids
    ids_tensor = torch.from_numpy(padded).to(model.embedding.weight.device)
    values = batch_logprobs(model, ids_tensor).cpu().numpy()
    return [values[row, : length - 1].copy() for row, length in enumerate(lengths)]


def batch_logprobs(model: Decoder, ids: torch.Tensor) -> torch.Tensor:
    """Natural-log p(ids[:, t] | ids[:, <t]) for t >= 1: ids int64 [B, T] -> float64 [B, T - 1].

    All the arithmetic of scoring, on tensors alone: the plan of an evaluation traces it.
    """
    hidden = model.hidden(ids[:, :-1]).flatten(0, 1)
    targets = ids[:, 1:].flatten()
    rows = max(1, LOGITS_PER_CHUNK // model.config.vocab_size)
    parts = []
    for start in range(0, len(targets), rows):
        logits = model.logits(hidden[start : start + rows]).float()
        chosen = logits.gather(1, targets[start : start + rows, None]).squeeze(1)
        parts.append((chosen - logits.logsumexp(dim=-1)).double())
    return torch.cat(parts).view(len(ids), -1)
