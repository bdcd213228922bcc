"""What the other rooms may ask of any language model, and of whatever keeps its keys and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from arriero.models.layers.masks import AttentionRule


class AttentionCache(Protocol):
    """Keys and values of the tokens before, and the attention over them."""

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """Store k, v [B, Hkv, T, Dh] of this layer's new tokens and attend with q [B, H, T, Dh] -> [B, H, T, Dh].

        Rotary embedding has been applied to q and k. ``rule`` is what else than causality decides who sees whom.
        """


@runtime_checkable
class LanguageModel(Protocol):
    """Anything that gives probabilities of the next token: decoders, n-grams."""

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Natural-log p(x_t | x_<t) for t >= 1: float64 [len(ids) - 1] for each sequence."""

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part; the sum is the model's size."""
