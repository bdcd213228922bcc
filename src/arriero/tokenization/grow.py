"""Growing a model's embeddings for a tokenizer that was extended."""

from __future__ import annotations

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.tokenization.extend import old_pieces
from arriero.tokenization.tokenizer import Tokenizer

_BY_TOKEN = ("embedding.weight", "head.weight", "head_bias")
"""Tensors with a row for every token."""


def grow_embeddings(model: Decoder, old_tokenizer: Tokenizer, new_tokenizer: Tokenizer) -> Decoder:
    """A model for the new tokenizer: the row of a new piece is the mean of the rows of its old pieces, in the embedding
    and in an untied head; all other weights are the old model's own tensors.

    Rows beyond the old tokenizer (padding of the table) are used up first.

    Raises:
        ArrieroError: the model has fewer rows than the old tokenizer pieces, or the new tokenizer is not its extension.
    """
    rows = model.config.vocab_size
    if rows < old_tokenizer.vocab_size:
        raise ArrieroError(
            f"the model has {rows:,} rows for the {old_tokenizer.vocab_size:,} pieces of its tokenizer"
        )
    parts = old_pieces(old_tokenizer, new_tokenizer)
    size = max(rows, new_tokenizer.vocab_size)
    state = {
        name: _grown(t, parts, size) if name in _BY_TOKEN else t for name, t in model.state_dict().items()
    }
    with torch.device("meta"):
        grown = Decoder(model.config.model_copy(update={"vocab_size": size}))
    grown.load_state_dict(state, assign=True)
    for name, buffer in model.named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(grown.get_submodule(owner), leaf, buffer)
    return grown.train(model.training)


def _grown(table: Tensor, parts: dict[int, list[int]], size: int) -> Tensor:
    """table [V, ...] -> [size, ...]."""
    grown = table.new_zeros((size, *table.shape[1:]))
    grown[: len(table)] = table
    for id, old in parts.items():
        grown[id] = table[old].float().mean(0).to(table.dtype)
    return grown
