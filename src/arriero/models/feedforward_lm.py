"""The feed-forward language model (Bengio et al., A Neural Probabilistic Language Model, JMLR 2003)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.models.carrying import Carried, CarryingModel
from arriero.models.feedforward_config import FeedForwardConfig
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.linear import Linear

NOTHING = -1
"""In place of an id where there is no token."""


class FeedForwardLM(CarryingModel):
    """``y = b + W x + U tanh(d + H x)`` with x the embeddings of the last ``window`` tokens, oldest first.

    Carried is (ids int64 [B, window - 1],), the tokens before, NOTHING where there is none. Places before a document's first token hold the zero vector.
    """

    def __init__(self, config: FeedForwardConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.d_embedding)
        self.feed_forward = Linear(config.inputs, config.d_model, bias=True)
        self.head = Linear(config.d_model, config.vocab_size, bias=True)
        self.direct = (
            Linear(config.inputs, config.vocab_size, bias=config.two_biases) if config.direct else None
        )

    @property
    def width(self) -> int:
        """Width of :meth:`hidden`."""
        return self.config.width

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw fresh weights, the same bits for the same seed: embeddings with ``init_std``, matrices with
        1/sqrt(3 inputs) (the spread of torch's uniform draw), the direct path with a tenth of it; biases 0."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.zero_()
                continue
            std = (
                self.config.init_std
                if name.startswith("embedding")
                else 1 / math.sqrt(3 * parameter.shape[1])
            )
            if name.startswith("direct"):
                std /= 10
            parameter.copy_(torch.empty(parameter.shape, device="cpu").normal_(0.0, std, generator=generator))

    def initial_state(self, rows: int) -> Carried:
        """Nothing before the first token, for that many rows."""
        shape = (rows, self.config.window - 1)
        return (torch.full(shape, NOTHING, dtype=torch.int64, device=self.embedding.weight.device),)

    def reset(self, state: Carried, rows: Tensor) -> Carried:
        """``state`` with the rows that are True in ``rows`` (bool [B]) as they are before any token."""
        return (state[0].masked_fill(rows[:, None], NOTHING),)

    def hidden_with_state(
        self, ids: Tensor, state: Carried | None = None, *, segments: Tensor | None = None
    ) -> tuple[Tensor, Carried]:
        """(:meth:`hidden`, the last window - 1 tokens), with the tokens of ``state`` before the first."""
        window = self.config.window
        (before,) = self.initial_state(ids.shape[0]) if state is None else state
        row = torch.cat([before, ids], dim=1)
        seen = row.unfold(1, window, 1)
        known = seen >= 0
        if segments is not None:
            # what was carried in belongs to the document of a row's first token
            every = torch.cat([segments[:, :1].expand_as(before), segments], dim=1)
            known = known & (every.unfold(1, window, 1) == segments[:, :, None])
        x = self.embedding(seen.clamp(min=0)) * known[..., None]
        x = x.flatten(2)
        hidden = torch.tanh(self.feed_forward(x))
        if self.config.dropout:
            hidden = F.dropout(hidden, self.config.dropout, self.training)
        if self.direct is not None:
            hidden = torch.cat([hidden, x.to(hidden.dtype)], dim=-1)
        # a document that began inside hides what lies before it from the tokens that follow
        after = row[:, row.shape[1] - (window - 1) :]
        if segments is not None and window > 1:
            after = after.masked_fill(~known[:, -1, 1:], NOTHING)
        return hidden, (after,)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden [..., width] -> [..., vocab_size]."""
        result: Tensor = self.head(hidden[..., : self.config.d_model])
        if self.direct is not None:
            result = result + self.direct(hidden[..., self.config.d_model :])
        return result
