"""Encoder-decoder models: the original Transformer (arXiv 1706.03762), BART (1910.13461) and T5 (1910.10683)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from arriero.models.initialise import initialise
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.linear import Linear
from arriero.models.layers.masks import key_mask
from arriero.models.layers.precision import product_dtype
from arriero.models.pair_scoring import target_logprobs
from arriero.models.parts import count_by_part
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.models.seq2seq_stack import Stack
from arriero.models.target_state import TargetCache, TargetState, padded

if TYPE_CHECKING:
    import numpy as np

KeysValues = tuple[Tensor, Tensor]


class Seq2Seq(nn.Module):
    """A model that writes a target for a source. Its weights are whatever memory holds until drawn or loaded."""

    head_bias: Tensor | None

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.d_model)
        own = not config.share_embeddings
        self.decoder_embedding = Embedding(config.target_vocab_size, config.d_model) if own else None
        self.encoder = Stack(config, "encoder")
        self.decoder = Stack(config, "decoder")
        self.head = None if config.tie_embeddings else Linear(config.d_model, config.target_vocab_size)
        # a buffer, as in Hugging Face's: stored with the weights but not trained
        bias = torch.zeros(1, config.target_vocab_size) if config.head_bias else None
        self.register_buffer("head_bias", bias)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw fresh weights as ``config.init`` says; norms 1, biases 0; the same bits for the same seed."""
        initialise(self, seed, 1.0)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(_fresh_std(self.config, name, parameter))

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """What the decoder attends to.

        Args:
            source: int64 [B, S].
            source_mask: [B, S], 1 or True at tokens, 0 or False at padding (on either side); None: no padding.

        Returns:
            [B, S, d_model]; what stands at padding means nothing.

        Raises:
            ArrieroError: more tokens than the model has positions.
        """
        stack = self.encoder
        x = stack.embed(self._vectors(self.embedding, source))
        mask = None if source_mask is None else key_mask(source_mask, product_dtype(x))
        mask = stack.bias(source.shape[1], source.shape[1], mask, product_dtype(x))
        for block in stack.blocks:
            x = block(x, None, mask)
        return stack.finish(x)

    def hidden(
        self,
        target: Tensor,
        memory: Tensor,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Vectors after the last block.

        Args:
            target: int64 [B, T], from the start token on; padding on the right needs no mask.
            memory: [B, S, d_model], what :meth:`encode` gave.
            source_mask: as there.
            target_mask: [B, T], 0 where no token may look.

        Returns:
            [B, T, d_model].
        """
        stack, length = self.decoder, target.shape[1]
        x = stack.embed(self._vectors(self._target_table, target))
        mask = None
        if stack.positions_bias is not None or target_mask is not None:
            mask = stack.bias(
                length, length, _causal(target, target_mask, product_dtype(x)), product_dtype(x)
            )
        return self._decode(x, mask, None, self.keys_values(memory), source_mask)

    def next_hidden(
        self, tokens: Tensor, cache: TargetCache, memory: Sequence[KeysValues], source_mask: Tensor | None
    ) -> Tensor:
        """Vectors [R, 1, d_model] of one more token [R, 1] of each row, whose past is in the cache."""
        x = self.decoder.embed(self._vectors(self._target_table, tokens), cache.length)
        cache.mask = self.decoder.bias(1, cache.length + 1, None, product_dtype(x))
        return self._decode(x, None, cache, memory, source_mask)

    def keys_values(self, memory: Tensor) -> list[KeysValues]:
        """The source's keys and values in each block of the decoder."""
        return [block.cross_attention.keys_values(memory) for block in self.decoder.blocks]

    def _decode(
        self,
        x: Tensor,
        mask: Tensor | None,
        cache: TargetCache | None,
        memory: Sequence[KeysValues],
        source_mask: Tensor | None,
    ) -> Tensor:
        seen = None if source_mask is None else key_mask(source_mask, product_dtype(x))
        for block, keys_values in zip(self.decoder.blocks, memory, strict=True):
            x = block(x, mask, cache, keys_values, seen)
        return self.decoder.finish(x)

    @property
    def _target_table(self) -> Embedding:
        return self.embedding if self.decoder_embedding is None else self.decoder_embedding

    def _vectors(self, table: Embedding, ids: Tensor) -> Tensor:
        x: Tensor = table(ids)
        return x * math.sqrt(self.config.d_model) if self.config.scale_embedding else x

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden [..., d_model] -> [..., vocab_size]."""
        if self.config.scale_head:
            hidden = hidden * self.config.d_model**-0.5
        result: Tensor = self._target_table.as_head(hidden) if self.head is None else self.head(hidden)
        return result if self.head_bias is None else result + self.head_bias[0]

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, vocab_size]; arguments as in :meth:`encode` and :meth:`hidden`."""
        memory = self.encode(source, source_mask)
        return self.logits(self.hidden(target, memory, source_mask, target_mask))

    def start(self, sources: Sequence[Sequence[int]]) -> TargetState:
        """A step function over targets of these sources (see ``inference.beam``), its keys and values cached.

        Raises:
            ArrieroError: a source is empty or too long, or has an id outside the vocabulary.
        """
        source, mask = padded(self, sources, "source", self.config.vocab_size)
        return TargetState(self, self.encode(source, mask), mask)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part; a tied head counts once, under embedding. The fixed bias on the logits is none."""
        tables = [table for table in (self.embedding, self.decoder_embedding) if table is not None]
        counts = {"embedding": sum(table.weight.numel() for table in tables)}
        for side in ("encoder", "decoder"):
            for part, count in count_by_part(self.get_submodule(side)).items():
                name = f"{side}_{part}" if part in ("attention", "feed_forward") else part
                counts[name] = counts.get(name, 0) + count
        if self.head is not None:
            counts["head"] = self.head.weight.numel()
        return counts

    def target_logprobs(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """Natural-log p(y_t | y_<t, source) for every token of each target: float64 [len(target)] each.

        The decoder reads the start token first, so the target's first token is scored too. An end token is scored
        where the target holds it.

        Raises:
            ArrieroError: not as many targets as sources; one is too long, or has an id outside the vocabulary.
        """
        return target_logprobs(self, sources, targets)

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Natural-log p(x_t | x_<t) for t >= 1: float64 [len(ids) - 1] for each sequence, as a decoder gives them.

        There is no source to a plain text: the encoder reads the end token alone, and the text is the target. A text
        that begins with the start token begins with it only once.
        """
        start = self.config.start_id
        begun = [len(ids) > 0 and ids[0] == start for ids in sequences]
        targets = [ids[1:] if first else ids for ids, first in zip(sequences, begun, strict=True)]
        scored = self.target_logprobs([[self.config.eos_id]] * len(sequences), targets)
        return [values if first else values[1:] for values, first in zip(scored, begun, strict=True)]


def _causal(target: Tensor, target_mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Additive mask [1 or B, 1, T, T]: a token sees itself and what is before it, padding left out."""
    length = target.shape[1]
    mask = torch.full((length, length), -math.inf, dtype=dtype, device=target.device).triu_(1)
    if target_mask is None:
        return mask[None, None]
    hidden = ~target_mask.bool()[:, None, None, :] & ~torch.eye(
        length, dtype=torch.bool, device=target.device
    )
    return mask.masked_fill(hidden, -math.inf)


def _fresh_std(config: Seq2SeqConfig, name: str, weight: Tensor) -> float:
    """Standard deviation of a fresh matrix [out, in] or table [rows, width]."""
    rows, width = weight.shape
    if config.init == "normal":
        return config.init_std
    if config.init == "glorot":  # Glorot & Bengio 2010; tables as in Vaswani et al.'s own code
        is_table = name.endswith(("embedding.weight", "positions.weight"))
        return width**-0.5 if is_table else (2 / (rows + width)) ** 0.5
    if name == "embedding.weight":  # T5: scores are not scaled, so queries start small instead
        return 1.0
    if name.endswith("q_proj.weight"):
        return (config.d_model * (rows // _heads(config, name))) ** -0.5
    return config.d_model**-0.5 if "positions_bias" in name else width**-0.5


def _heads(config: Seq2SeqConfig, name: str) -> int:
    return config.encoder_heads if name.startswith("encoder") else config.decoder_heads
