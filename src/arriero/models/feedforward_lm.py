"""The feed-forward language model (Bengio et al., A Neural Probabilistic Language Model, JMLR 2003)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.feedforward_config import FeedForwardConfig
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.linear import Linear
from arriero.models.scoring import token_logprobs

if TYPE_CHECKING:
    import numpy as np

Carried = tuple[Tensor, ...]
"""(ids int64 [B, window - 1],): the tokens before, NOTHING where there is none."""
NOTHING = -1


class FeedForwardLM(nn.Module):
    """``y = b + W x + U tanh(d + H x)`` with x the embeddings of the last ``window`` tokens, oldest first.

    Places before a document's first token hold the zero vector.
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

    def hidden(
        self, ids: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """The hidden layer at all places, with the window's embeddings behind it where there is a direct path.

        Args:
            ids: int64 [B, T].
            positions: not looked at.
            segments: int64 [B, T], number of the document of each token; windows never reach into another.

        Returns:
            [B, T, width].
        """
        return self.hidden_with_state(ids, segments=segments)[0]

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

    def forward(
        self, ids: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, vocab_size]; arguments as in :meth:`hidden`."""
        return self.logits(self.hidden(ids, segments=segments))

    def step(self, ids: Tensor, state: Carried | None = None) -> tuple[Tensor, Carried]:
        """One token a row, for generation: ids int64 [B] -> (logits [B, vocab_size] of the next token, state)."""
        hidden, state = self.hidden_with_state(ids[:, None], state)
        return self.logits(hidden[:, 0]), state

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part."""
        return self.config.parameter_counts()

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Natural-log p(x_t | x_<t) for t >= 1: float64 [len(ids) - 1] for each sequence; see models.scoring."""
        return token_logprobs(self, sequences)
