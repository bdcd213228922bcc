"""Decoder-only language models: GPT, Llama and their kin, by the switches of ``DecoderConfig``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.decoder_config import DecoderConfig
from arriero.models.initialise import initialise
from arriero.models.layers.attention import EXPLICIT_LENGTH, Attention, Places
from arriero.models.layers.block import Block
from arriero.models.layers.documents import Documents, FirstKeys
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.feedforward import FeedForward
from arriero.models.layers.known import values_known
from arriero.models.layers.linear import Linear
from arriero.models.layers.masks import AttentionRule, causal_mask, segment_mask, segment_positions
from arriero.models.layers.native_attention import takes_documents
from arriero.models.layers.norm import LayerNorm, make_norm
from arriero.models.layers.positions import sinusoidal
from arriero.models.layers.precision import product_dtype
from arriero.models.layers.relative_attention import RelativeAttention
from arriero.models.layers.rotary import Rotary
from arriero.models.layers.top_query import TopQueryAttention
from arriero.models.protocol import AttentionCache
from arriero.models.scoring import token_logprobs
from arriero.products import linear

if TYPE_CHECKING:
    import numpy as np


_ATTENTION: dict[str, Callable[..., Attention]] = {
    "relative": RelativeAttention,
    "alibi": partial(Attention, alibi=True),
}


def decoder_block(config: DecoderConfig, layer: int) -> Block:
    """Block ``layer`` of a decoder."""
    kind: Callable[..., Attention] = _ATTENTION.get(config.positions, Attention)
    if config.top_query and layer == config.n_layers - 1:
        kind = TopQueryAttention
    attention = kind(
        config.d_model, config.n_heads, config.n_kv_heads, config.head_dim, layer=layer,
        qkv_bias=config.qkv_bias, out_bias=config.out_bias, window=config.sliding_window,
    )  # fmt: skip
    feed_forward = FeedForward(
        config.d_model, config.d_ff, config.activation, config.gated, config.feed_forward_bias
    )
    return Block(
        config.d_model, attention, feed_forward,
        norm=config.norm, eps=config.norm_eps, norm_bias=config.norm_bias,
        arrangement=config.arrangement, parallel_norms=config.parallel_norms, dropout=config.dropout,
    )  # fmt: skip


def by_document(config: DecoderConfig, length: int, dtype: torch.dtype) -> bool:
    """True where packed rows of so many tokens are attended document by document rather than under a mask.

    Where scores are worked out whole (short rows in bfloat16), one call for all is faster.
    """
    return _plain(config) and (dtype != torch.bfloat16 or length > EXPLICIT_LENGTH)


def _plain(config: DecoderConfig) -> bool:
    """Nothing else than causality and documents decides who sees whom."""
    return config.positions not in _ATTENTION and config.sliding_window is None and not config.top_query


class Decoder(nn.Module):
    """A causal language model. Its weights are whatever memory holds until they are drawn or loaded."""

    sinusoids: Tensor | None

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.embedding = Embedding(config.vocab_size, d)
        learned = config.positions == "learned"
        self.positions = Embedding(config.context_length + config.position_offset, d) if learned else None
        self.positions_of_queries = Embedding(config.context_length, d) if config.top_query else None
        self.embedding_norm = LayerNorm(d, config.norm_eps) if config.embedding_norm else None
        self.blocks = nn.ModuleList(decoder_block(config, layer) for layer in range(config.n_layers))
        self.norm = (
            make_norm(config.norm, d, config.norm_eps, config.norm_bias) if config.final_norm else None
        )
        self.head = None if config.tie_embeddings else Linear(d, config.vocab_size)
        self.head_bias = nn.Parameter(torch.empty(config.vocab_size)) if config.head_bias else None
        rotary = config.positions == "rotary"
        self.rotary = (
            Rotary(config.rotary_width, config.context_length, config.rope_theta, config.rope_scaling)
            if rotary
            else None
        )
        waves = config.positions in ("sinusoidal", "relative")
        sinusoids = sinusoidal(config.context_length, d) if waves else None
        self.register_buffer("sinusoids", sinusoids, persistent=False)

    def init_weights(self, seed: int) -> None:
        """Draw fresh weights: normal with ``init_std``, norms 1, biases 0; the same bits for the same seed.

        The projections onto the residual stream are scaled by 1/sqrt(2 n_layers), so that its variance does not
        grow with depth (GPT-2).
        """
        initialise(
            self, seed, self.config.init_std, self.config.init_std / math.sqrt(2 * self.config.n_layers)
        )

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """Vectors after the final norm, or after the top query layer above it.

        Args:
            ids: int64 [B, T].
            positions: int64 [B, T]; by default 0, 1, 2 ... and from 0 again at each new segment. Distances (ALiBi,
                relative) follow the order of the tokens, whatever it says.
            segments: int64 [B, T], number of the document that each token belongs to; attention never crosses
                from one to another. Negative numbers are padding, whose results mean nothing (but are no NaN): an
                ``attention_mask`` of Hugging Face's kind is ``attention_mask - 1``.
            cache: keeps keys and values and attends; then ``segments`` must be None.

        Returns:
            [B, T, d_model].

        Raises:
            ArrieroError: more tokens than the context holds.
        """
        length = ids.shape[1]
        if cache is None and length > self.config.context_length:  # with one, tokens of many sequences
            raise ArrieroError(
                f"{length} tokens are more than the model's context of {self.config.context_length}"
            )
        if segments is not None and positions is None:
            positions = segment_positions(segments)
        return self.body(self.embed(ids, positions), positions=positions, segments=segments, cache=cache)

    def body(
        self,
        x: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: AttentionCache | None = None,
        length: int | None = None,
    ) -> Tensor:
        """The blocks and the final norm (under the top query layer, where there is one): x [B, T, d_model] ->
        [B, T, d_model]; the rest as in :meth:`hidden`, but that ``positions`` must be given where there are segments.

        Args:
            length: T, where x holds a part of each sequence and the blocks gather it.
        """
        length = x.shape[1] if length is None else length
        mask = None if cache is not None else self._mask(length, x, segments)
        told = self._told(length, positions, cache is not None)
        for block in islice(self.blocks, len(self.blocks) - self.config.top_query):
            x = block(x, told, mask, cache)
        result: Tensor = x if self.norm is None else self.norm(x)
        if self.positions_of_queries is not None:
            queries = self.positions_of_queries(_places(x, positions))
            result = self.blocks[-1](result, queries.view(-1, *x.shape[1:]), mask, cache)
        return result

    def _told(self, length: int, positions: Tensor | None, cached: bool) -> Places:
        """What the attention of all blocks but a top query layer is told of the tokens' places."""
        if self.rotary is not None:
            return self.rotary(length, positions)
        if self.config.positions != "relative":
            return None
        assert self.sinusoids is not None
        if cached and positions is not None:  # a plan that traces without values takes the whole context
            length = int(positions.max()) + 1 if values_known(positions) else self.config.context_length
        return self.sinusoids[:length]

    def embed(self, ids: Tensor, positions: Tensor | None) -> Tensor:
        """What the first block reads: ids int64 [B, T], positions int64 [B, T] or None -> [B, T, d_model]."""
        x: Tensor = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions(_places(ids, positions) + self.config.position_offset)
        if self.sinusoids is not None and self.config.positions == "sinusoidal":
            x = x + self.sinusoids[_places(ids, positions)].to(x.dtype)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return F.dropout(x, self.config.dropout, self.training) if self.config.dropout else x

    def _mask(self, length: int, x: Tensor, segments: Tensor | None) -> Tensor | Documents | FirstKeys | None:
        """One mask for all blocks, or their documents; None: plain causality."""
        rule: AttentionRule | None = self.blocks[0].attention.rule
        if segments is not None:
            compiled = (
                self.blocks[0]._compiled_call_impl is not None
            )  # anew for all lengths, if they came one by one
            if not compiled and by_document(self.config, length, product_dtype(x)):
                if not values_known(segments) or bool((segments == segments[:, :1]).all()):
                    return None  # one document a row, or so a plan assumes
                documents = Documents.of(segments)
                if documents is not None:
                    return documents
            elif not compiled and self._first_keys_serve(length, x):
                first = FirstKeys.of(segments)
                if first is not None:
                    return first
            return segment_mask(segments, product_dtype(x), rule)
        return None if rule is None else causal_mask(length, rule, product_dtype(x), x.device)

    def _first_keys_serve(self, length: int, x: Tensor) -> bool:
        """True where the native attention takes short rows of documents."""
        dtype, config = product_dtype(x), self.config
        short = _plain(config) and not by_document(config, length, dtype)
        return short and x.device.type == "cpu" and takes_documents(config.head_dim, dtype)

    def head_table(self) -> tuple[Tensor, Tensor | None]:
        """Weight [vocab_size, d_model] and bias of the head, by which a loss can write its gradient out."""
        table = self.embedding if self.head is None else self.head
        return table.weight, self.head_bias

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden [..., d_model] -> [..., vocab_size]."""
        return linear(hidden, *self.head_table())

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
        """Parameters by part, quantised or not; a tied head counts once, under embedding."""
        return self.config.parameter_counts()

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Natural-log p(x_t | x_<t) for t >= 1: float64 [len(ids) - 1] for each sequence; see models.scoring."""
        return token_logprobs(self, sequences)


def _places(row: Tensor, positions: Tensor | None) -> Tensor:
    """Places of the tokens of ``row`` [B, T, ...]: [B, T], or [T] where nothing is said."""
    return torch.arange(row.shape[1], device=row.device) if positions is None else positions
