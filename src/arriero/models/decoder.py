"""The decoder family: Llama 3 (RMSNorm, rotary positions, SwiGLU, grouped-query attention; arXiv 2407.21783)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from arriero.models.config import DecoderConfig
from arriero.models.layers.attention import Attention, segment_mask, segment_positions
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.feedforward import FeedForward
from arriero.models.layers.linear import Linear
from arriero.models.layers.norm import RMSNorm
from arriero.models.layers.precision import product_dtype
from arriero.models.layers.rotary import Rotary
from arriero.models.protocol import AttentionCache
from arriero.models.scoring import token_logprobs

if TYPE_CHECKING:
    import numpy as np

_RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight")


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None, cache: AttentionCache | None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angles, mask, cache)
        result: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return result


class Decoder(nn.Module):
    """A causal language model. Its weights are whatever memory holds until they are drawn or loaded."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = None if config.tie_embeddings else Linear(config.d_model, config.vocab_size)
        self.rotary = Rotary(config.head_dim, config.context_length, config.rope_theta)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw fresh weights: normal with ``init_std``, norms 1; the same bits for the same seed.

        The projections onto the residual stream are scaled by 1/sqrt(2 n_layers), so that its variance does not
        grow with depth (GPT-2).
        """
        generator = torch.Generator().manual_seed(seed)
        residual_std = self.config.init_std / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
                continue
            std = residual_std if name.endswith(_RESIDUAL_PROJECTIONS) else self.config.init_std
            # drawn on the CPU in float32, so that device and dtype don't change the draw
            parameter.copy_(torch.empty(parameter.shape, device="cpu").normal_(0.0, std, generator=generator))

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """Vectors after the final norm.

        Args:
            ids: int64 [B, T].
            positions: int64 [B, T]; by default 0, 1, 2 ... and from 0 again at each new segment.
            segments: int64 [B, T], number of the document that each token belongs to; attention never crosses
                from one to another. Negative numbers are padding, whose results mean nothing (but are no NaN).
            cache: keeps keys and values and attends; then ``segments`` must be None.

        Returns:
            [B, T, d_model].
        """
        mask = None
        x = self.embedding(ids)
        if segments is not None:
            mask = segment_mask(segments, product_dtype(x))
            positions = segment_positions(segments) if positions is None else positions
        angles = self.rotary(ids.shape[1], positions)
        for block in self.blocks:
            x = block(x, angles, mask, cache)
        result: Tensor = self.norm(x)
        return result

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden [..., d_model] -> [..., vocab_size]."""
        result: Tensor = self.embedding.as_head(hidden) if self.head is None else self.head(hidden)
        return result

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """Logits [B, T, vocab_size]; arguments as in :meth:`hidden`."""
        return self.logits(self.hidden(ids, positions=positions, segments=segments, cache=cache))

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part; a tied head counts once, under embedding."""
        return self.config.parameter_counts()

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Natural-log p(x_t | x_<t) for t >= 1: float64 [len(ids) - 1] for each sequence; see models.scoring."""
        return token_logprobs(self, sequences)
