"""One side of an encoder-decoder: its positions, blocks and norms, by the switches of ``Seq2SeqConfig``."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.layers.attention import Attention, CrossAttention
from arriero.models.layers.block import Block
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.feedforward import FeedForward
from arriero.models.layers.norm import make_norm
from arriero.models.layers.positions import sinusoidal
from arriero.models.layers.relative_bias import RelativeBias
from arriero.models.seq2seq_config import Seq2SeqConfig

Side = Literal["encoder", "decoder"]


class CrossBlock(Block):
    """A decoder's block: self-attention, attention to the source, feed-forward, each with its norm."""

    def __init__(self, config: Seq2SeqConfig, layer: int) -> None:
        super().__init__(
            config.d_model, _attention(config, "decoder", layer), _feed_forward(config, "decoder"),
            norm=config.norm, eps=config.norm_eps, arrangement=config.arrangement, dropout=config.dropout,
        )  # fmt: skip
        self.cross_attention_norm = make_norm(config.norm, config.d_model, config.norm_eps)
        self.cross_attention = CrossAttention(
            config.d_model, config.decoder_heads, _head_dim(config, "decoder"),
            bias=config.bias, scale=_scale(config),
        )  # fmt: skip

    def forward(self, x: Tensor, *context: object) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model].

        ``context``: the additive mask of self-attention, the cache, the source's keys and values in this block, their
        additive mask.
        """
        mask, cache, keys_values, source_mask = context
        x = self._residual(x, self.attention_norm, self.attention, None, mask, cache)
        x = self._residual(x, self.cross_attention_norm, self.cross_attention, keys_values, source_mask)
        assert self.feed_forward_norm is not None
        return self._residual(x, self.feed_forward_norm, self.feed_forward)

    def _residual(self, x: Tensor, norm: nn.Module, branch: nn.Module, *context: object) -> Tensor:
        if self.arrangement == "pre":
            return x + self._dropped(branch(norm(x), *context))
        result: Tensor = norm(x + self._dropped(branch(x, *context)))
        return result


class Stack(nn.Module):
    """The blocks of one side, with its positions and norms."""

    sinusoids: Tensor | None

    def __init__(self, config: Seq2SeqConfig, side: Side) -> None:
        super().__init__()
        self.config = config
        d, length = config.d_model, config.context_length
        learned, relative = config.positions == "learned", config.positions == "relative"
        self.positions = Embedding(length + config.position_offset, d) if learned else None
        self.positions_bias = _relative_bias(config, side) if relative else None
        self.embedding_norm = make_norm(config.norm, d, config.norm_eps) if config.embedding_norm else None
        layers = range(config.encoder_layers if side == "encoder" else config.decoder_layers)
        self.blocks = nn.ModuleList(
            _encoder_block(config, i) if side == "encoder" else CrossBlock(config, i) for i in layers
        )
        self.norm = make_norm(config.norm, d, config.norm_eps) if config.arrangement == "pre" else None
        by_turns = config.positions == "sinusoidal"
        table = (
            sinusoidal(length, d, by_turns) if by_turns or config.positions == "sinusoidal_halves" else None
        )
        # Marian's files leave their own table out; ours, in the paper's order, goes with the weights
        self.register_buffer("sinusoids", table, persistent=by_turns)

    def embed(self, x: Tensor, first: int = 0) -> Tensor:
        """Token vectors [B, T, d_model] with their places, ``first`` being the first of them."""
        last = first + x.shape[1]
        if self.config.bounded and last > self.config.context_length:
            raise ArrieroError(
                f"{last} tokens are more than the model's context of {self.config.context_length}"
            )
        if self.positions is not None:
            offset = self.config.position_offset
            x = x + self.positions.weight[first + offset : last + offset]
        if self.sinusoids is not None:
            x = x + self.sinusoids[first:last].to(x.dtype)
        return self.dropped(x if self.embedding_norm is None else self.embedding_norm(x))

    def bias(self, queries: int, keys: int, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """``mask`` with the relative positions' biases on the scores added, where the model has any."""
        if self.positions_bias is None:
            return mask
        bias: Tensor = self.positions_bias(queries, keys).to(dtype)
        return bias if mask is None else bias + mask

    def finish(self, x: Tensor) -> Tensor:
        """What comes after the last block."""
        return x if self.norm is None else self.dropped(self.norm(x))

    def dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x


def _attention(config: Seq2SeqConfig, side: Side, layer: int) -> Attention:
    heads = config.encoder_heads if side == "encoder" else config.decoder_heads
    return Attention(
        config.d_model, heads, heads, _head_dim(config, side), layer=layer, causal=side == "decoder",
        qkv_bias=config.bias, out_bias=config.bias, scale=_scale(config),
    )  # fmt: skip


def _feed_forward(config: Seq2SeqConfig, side: Side) -> FeedForward:
    d_ff = config.encoder_d_ff if side == "encoder" else config.decoder_d_ff
    return FeedForward(config.d_model, d_ff, config.activation, config.gated, config.bias)


def _encoder_block(config: Seq2SeqConfig, layer: int) -> Block:
    return Block(
        config.d_model, _attention(config, "encoder", layer), _feed_forward(config, "encoder"),
        norm=config.norm, eps=config.norm_eps, arrangement=config.arrangement, dropout=config.dropout,
    )  # fmt: skip


def _relative_bias(config: Seq2SeqConfig, side: Side) -> RelativeBias:
    heads = config.encoder_heads if side == "encoder" else config.decoder_heads
    return RelativeBias(config.relative_buckets, config.relative_max_distance, heads, side == "encoder")


def _head_dim(config: Seq2SeqConfig, side: Side) -> int:
    return config.head_dim or config.d_model // (
        config.encoder_heads if side == "encoder" else config.decoder_heads
    )


def _scale(config: Seq2SeqConfig) -> float | None:
    return None if config.scale_attention else 1.0
