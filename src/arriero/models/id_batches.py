"""Lists of ids as padded batches: like lengths together, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from arriero.errors import ArrieroError


def check_ids(sequences: Sequence[Sequence[int]], vocab_size: int, longest: int | None) -> None:
    """See that every sequence fits the model.

    Raises:
        ArrieroError: a sequence is too long, or has an id outside the vocabulary.
    """
    for index, ids in enumerate(sequences):
        if longest is not None and len(ids) > longest:
            raise ArrieroError(
                f"sequence {index} has {len(ids)} tokens, more than the {longest} that the model has positions for"
            )
        if len(ids) and not 0 <= min(ids) <= max(ids) < vocab_size:
            raise ArrieroError(f"sequence {index} has an id outside the vocabulary of {vocab_size}")


def id_batches(
    sequences: Sequence[Sequence[int]], pad_id: int, tokens_per_batch: int = 8192
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Batches of at most ``tokens_per_batch`` padded tokens, longest sequences first.

    Yields:
        Indices of the sequences, ids int64 [B, T] padded on the right, attention mask bool [B, T].

    Raises:
        ArrieroError: a sequence is empty.
    """
    for index, ids in enumerate(sequences):
        if not len(ids):
            raise ArrieroError(f"sequence {index} has no token")
    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    start = 0
    while start < len(order):
        length = len(sequences[order[start]])
        batch = order[start : start + max(1, tokens_per_batch // length)]
        ids = torch.full((len(batch), length), pad_id, dtype=torch.int64)
        mask = torch.zeros(len(batch), length, dtype=torch.bool)
        for row, index in enumerate(batch):
            ids[row, : len(sequences[index])] = torch.tensor(list(sequences[index]), dtype=torch.int64)
            mask[row, : len(sequences[index])] = True
        yield batch, ids, mask
        start += len(batch)
