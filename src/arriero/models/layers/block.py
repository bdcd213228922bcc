"""One block of a Transformer: attention and feed-forward around the residual stream."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.layers.norm import RMSNorm, make_norm


class Block(nn.Module):
    """Attention and feed-forward, each with a norm, added to the residual stream.

    Args:
        arrangement: ``pre``: ``x + f(norm(x))`` twice (GPT-2, Llama); ``post``: ``norm(x + f(x))`` twice (the original
            Transformer, GPT-1, BERT); ``parallel``: ``x + attention(norm(x)) + feed_forward(norm(x))`` (GPT-J, PaLM).
        parallel_norms: with ``parallel``: one norm for both branches, or one each.
        dropout: share of a branch's values set to zero in training.
    """

    def __init__(
        self,
        d_model: int,
        attention: nn.Module,
        feed_forward: nn.Module,
        *,
        norm: Literal["rms", "layer"] = "rms",
        eps: float = 1e-5,
        norm_bias: bool = True,
        arrangement: Literal["pre", "post", "parallel"] = "pre",
        parallel_norms: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.arrangement, self.dropout = arrangement, dropout
        shared = arrangement == "parallel" and parallel_norms == 1
        self.attention_norm = make_norm(norm, d_model, eps, norm_bias)
        self.attention = attention
        self.feed_forward_norm = None if shared else make_norm(norm, d_model, eps, norm_bias)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor, *context: object) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model]; ``context`` is what the attention wants besides x."""
        if self.arrangement == "pre":
            x = self._with_branch(x, self.attention_norm, self.attention, *context)
            assert self.feed_forward_norm is not None
            return self._with_branch(x, self.feed_forward_norm, self.feed_forward)
        if self.arrangement == "post":
            x = self.attention_norm(x + self._dropped(self.attention(x, *context)))
            return self._second_norm(x + self._dropped(self.feed_forward(x)))
        normed = self.attention_norm(x)
        other = normed if self.feed_forward_norm is None else self.feed_forward_norm(x)
        return x + self._dropped(self.attention(normed, *context)) + self._dropped(self.feed_forward(other))

    def _with_branch(self, x: Tensor, norm: nn.Module, branch: nn.Module, *context: object) -> Tensor:
        """``x + branch(norm(x))``."""
        normed, x = norm.of_stream(x) if isinstance(norm, RMSNorm) else (norm(x), x)
        found = self._dropped(branch(normed, *context))
        del normed  # where nothing keeps it, its memory is free for the sum
        return x + found

    def _second_norm(self, x: Tensor) -> Tensor:
        assert self.feed_forward_norm is not None
        result: Tensor = self.feed_forward_norm(x)
        return result

    def _dropped(self, branch: Tensor) -> Tensor:
        return F.dropout(branch, self.dropout, self.training) if self.dropout else branch
