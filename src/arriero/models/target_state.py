"""Targets that grow token by token: keys and values of what was written, and of the source they are written for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.layers.attention import attend
from arriero.models.layers.masks import AttentionRule

if TYPE_CHECKING:
    from arriero.models.seq2seq import Seq2Seq


class TargetCache:
    """Keys and values of the targets' tokens so far; an ``AttentionCache`` for one new token a row."""

    def __init__(self, n_layers: int, scale: float | None) -> None:
        self.length = 0
        self.mask: Tensor | None = None
        """Biases on the scores of the coming token, [1, H, 1, length + 1]."""
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * n_layers
        self._scale = scale

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """Store this layer's keys and values [R, H, 1, Dh] and attend over all so far."""
        before = self._layers[layer]
        if before is not None:
            k, v = torch.cat([before[0], k], dim=2), torch.cat([before[1], v], dim=2)
        self._layers[layer] = k, v
        if layer == len(self._layers) - 1:
            self.length += 1
        return attend(q, k, v, self.mask, causal=False, scale=self._scale)

    def reorder(self, parents: Tensor) -> None:
        """Row i becomes what row ``parents[i]`` was."""
        self._layers = [(k[parents], v[parents]) for k, v in filter(None, self._layers)]


class TargetState:
    """The step function of a beam search over targets; see ``inference.beam.Step``."""

    def __init__(self, model: Seq2Seq, memory: Tensor, source_mask: Tensor) -> None:
        """``memory`` [N, S, d_model] and ``source_mask`` [N, S] of the sources."""
        self._model = model
        scale = None if model.config.scale_attention else 1.0
        self._cache = TargetCache(model.config.decoder_layers, scale)
        self._inputs = torch.arange(len(memory), device=memory.device)
        self._memory, self._mask = model.keys_values(memory), source_mask

    def __call__(self, tokens: Tensor, parents: Tensor | None) -> Tensor:
        """One more token of each row, int64 [R] -> log-probabilities of the next, float32 [R, vocab_size].

        Args:
            parents: int64 [R], the row of the call before that each row continues; None: the rows are the sources.
        """
        if parents is not None:
            self._continue(parents.to(self._inputs.device))
        tokens = tokens.to(self._inputs.device)[:, None]
        hidden = self._model.next_hidden(tokens, self._cache, self._memory, self._mask)
        return self._model.logits(hidden[:, 0]).float().log_softmax(dim=-1)

    def _continue(self, parents: Tensor) -> None:
        self._cache.reorder(parents)
        inputs = self._inputs[parents]
        if torch.equal(inputs, self._inputs):
            return  # rows only changed places among the targets of one source
        self._memory = [(k[parents], v[parents]) for k, v in self._memory]
        self._inputs, self._mask = inputs, self._mask[parents]


def padded(
    model: Seq2Seq, sequences: Sequence[Sequence[int]], what: str, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """(ids int64 [N, T], mask bool [N, T]), padded on the right, on the model's device.

    Raises:
        ArrieroError: a sequence is empty or longer than the model's context, or has an id outside the vocabulary.
    """
    config = model.config
    for index, ids in enumerate(sequences):
        if not len(ids):
            raise ArrieroError(f"{what} {index} is empty; it should have its end token at least")
        if config.bounded and len(ids) > config.context_length:
            raise ArrieroError(
                f"{what} {index} has {len(ids)} tokens, more than the model's context of {config.context_length}"
            )
        if not 0 <= min(ids) <= max(ids) < vocab_size:
            raise ArrieroError(f"{what} {index} has an id outside the vocabulary of {vocab_size}")
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), config.pad_id, dtype=torch.int64)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        mask[row, : len(sequence)] = True
    device = model.embedding.weight.device
    return ids.to(device), mask.to(device)
