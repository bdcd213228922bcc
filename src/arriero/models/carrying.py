"""What networks that hand a state on from token to token have in common: recurrent ones and the feed-forward window."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from arriero.models.scoring import token_logprobs

if TYPE_CHECKING:
    import numpy as np

Carried = tuple[Tensor, ...]
"""What a network knows of the tokens before, row by row."""


class CarryingModel(nn.Module):
    """A causal network without a longest sequence. Subclasses say what is carried, and what is made of it."""

    config: Any

    @abstractmethod
    def initial_state(self, rows: int) -> Carried:
        """What is carried before any token, for that many rows."""

    @abstractmethod
    def reset(self, state: Carried, rows: Tensor) -> Carried:
        """``state`` with the rows that are True in ``rows`` (bool [B]) as they are before any token."""

    @abstractmethod
    def hidden_with_state(
        self, ids: Tensor, state: Carried | None = None, *, segments: Tensor | None = None
    ) -> tuple[Tensor, Carried]:
        """(:meth:`hidden`, state after the last token), starting from ``state`` (None: before any token).

        A row's first token goes on from ``state`` whatever its segment.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden [..., width] -> [..., vocab_size]."""

    def hidden(
        self, ids: Tensor, *, positions: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """What the head takes: ids int64 [B, T] -> [B, T, width].

        Args:
            positions: not looked at: order is all that such a model knows.
            segments: int64 [B, T], number of the document of each token; nothing is carried from one into another.
        """
        return self.hidden_with_state(ids, segments=segments)[0]

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
        """Parameters by part; a tied head counts once, under embedding."""
        counts: dict[str, int] = self.config.parameter_counts()
        return counts

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Natural-log p(x_t | x_<t) for t >= 1: float64 [len(ids) - 1] for each sequence; see models.scoring."""
        return token_logprobs(self, sequences)
