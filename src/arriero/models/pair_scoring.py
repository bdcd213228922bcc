"""Log-probabilities of given targets under an encoder-decoder, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from arriero.errors import ArrieroError
from arriero.models.scoring import TOKENS_PER_BATCH, chosen_logprobs
from arriero.models.target_state import padded

if TYPE_CHECKING:
    from arriero.models.seq2seq import Seq2Seq

Sequences = Sequence[Sequence[int]]


def target_logprobs(model: Seq2Seq, sources: Sequences, targets: Sequences) -> list[np.ndarray]:
    """See :meth:`arriero.models.seq2seq.Seq2Seq.target_logprobs`."""
    if len(sources) != len(targets):
        raise ArrieroError(
            f"{len(sources)} sources and {len(targets)} targets; there should be as many of each"
        )
    results = [np.zeros(0) for _ in targets]
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in _batches(sources, targets):
                scored = _score(model, [sources[i] for i in batch], [targets[i] for i in batch])
                for index, values in zip(batch, scored, strict=True):
                    results[index] = values
    finally:
        model.train(training)
    return results


def _batches(sources: Sequences, targets: Sequences) -> Iterator[list[int]]:
    """Indices of pairs with a target, those of like length together, at most TOKENS_PER_BATCH padded tokens."""
    order = sorted(
        (i for i in range(len(targets)) if len(targets[i])),
        key=lambda i: (-len(targets[i]), -len(sources[i])),
    )
    batch: list[int] = []
    width = 0
    for index in order:
        wider = max(width, len(sources[index]) + len(targets[index]))
        if batch and wider * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch
            batch, wider = [], len(sources[index]) + len(targets[index])
        batch.append(index)
        width = wider
    if batch:
        yield batch


def _score(model: Seq2Seq, sources: Sequences, targets: Sequences) -> list[np.ndarray]:
    source, source_mask = padded(model, sources, "source", model.config.vocab_size)
    written, _ = padded(model, targets, "target", model.config.target_vocab_size)
    start = torch.full((len(targets), 1), model.config.start_id, device=written.device)
    hidden = model.hidden(
        torch.cat([start, written[:, :-1]], dim=1), model.encode(source, source_mask), source_mask
    )
    values = chosen_logprobs(model, hidden, written).cpu().numpy()
    return [values[row, : len(target)].copy() for row, target in enumerate(targets)]
