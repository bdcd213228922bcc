"""The encoder families: one bidirectional body, switched by its configuration, and a head chosen by task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.encoder_config import EncoderConfig
from arriero.models.heads import HEADS, Head, MaskedLMHead, PairHead, Pooler, PretrainingHead
from arriero.models.initialise import initialise
from arriero.models.layers.attention import Attention
from arriero.models.layers.block import Block
from arriero.models.layers.conv import TokenConvolution
from arriero.models.layers.disentangled import DisentangledAttention, RelativePositions, pair_mask
from arriero.models.layers.encoder_embedding import EncoderEmbedding
from arriero.models.layers.feedforward import FeedForward
from arriero.models.layers.known import values_known
from arriero.models.layers.mask_decoder import EnhancedMaskDecoder
from arriero.models.layers.masks import key_mask
from arriero.models.layers.precision import product_dtype
from arriero.models.layers.window_attention import WindowAttention, window_context
from arriero.models.masked_scoring import pseudo_logprobs
from arriero.models.parts import count_by_part
from arriero.models.protocol import AttentionCache
from arriero.models.sentence_embedding import classify, embed

if TYPE_CHECKING:
    import numpy as np


class Inputs(TypedDict, total=False):
    """What stands beside the ids [B, T]; every one may be left out."""

    attention_mask: Tensor | None
    """[B, T], 0 for padding; None: nothing is padding."""
    segments: Tensor | None
    """int64 [B, T], which segment a token belongs to; None: all to segment 0."""
    positions: Tensor | None
    """int64 [B, T], rows of the position table; None: as the family counts them."""
    global_attention: Tensor | None
    """[B, T], 1 for tokens that see and are seen by all (Longformer); None: none, in ``forward`` as the task has it."""
    attention: AttentionCache | None
    """Attends in place of every layer, for texts laid end to end in one row; of full attention alone."""


class Encoder(nn.Module):
    """BERT, RoBERTa, ALBERT, DeBERTa or Longformer, as ``config`` says."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = EncoderEmbedding(config)
        self.positions = RelativePositions(config) if config.relative_attention else None
        if config.n_groups is None:
            self.blocks = nn.ModuleList(_block(config) for _ in range(config.n_layers))
        else:
            self.blocks = nn.ModuleList(_group(config) for _ in range(config.n_groups))
        self.conv = TokenConvolution(config) if config.conv_kernel else None
        self.mask_decoder = EnhancedMaskDecoder(config) if config.has_mask_decoder else None
        self.pooler = Pooler(config) if config.has_body_pooler else None
        self.head: Head | None = None if config.task == "none" else HEADS[config.task](config)

    def init_weights(self, seed: int) -> None:
        """Draw fresh weights: normal with ``init_std``, norms 1, biases 0; the same bits for the same seed."""
        initialise(self, seed, self.config.init_std)

    def hidden(self, ids: Tensor, **inputs: Unpack[Inputs]) -> Tensor:
        """The body's last vectors: ids int64 [B, T] -> [B, T, d_model]."""
        return self.states(ids, keep_all=False, **inputs)[-1]

    def states(self, ids: Tensor, *, keep_all: bool = True, **inputs: Unpack[Inputs]) -> list[Tensor]:
        """The body's vectors [B, T, d_model] after the embedding and after every layer; else the last ones alone."""
        keep = _real_tokens(inputs.get("attention_mask"))
        x = self.embedding(ids, inputs.get("segments"), inputs.get("positions"), keep)
        attention = inputs.get("attention")
        if attention is None:
            contexts = self._contexts(x, keep, inputs.get("global_attention"))
        elif self.takes_packed:
            contexts = [(None, None, attention)]
        else:
            raise ArrieroError(f"a model of family '{self.config.family}' cannot have texts laid end to end")
        embedded, states = x, [x]
        for layer, block in enumerate(self._layers()):
            context = contexts[layer % len(contexts)]
            if self.mask_decoder is not None and layer == self.config.n_layers - 1:
                x = self.mask_decoder(x, block, *context)
            else:
                x = block(x, *context)
            if layer == 0 and self.conv is not None:
                x = self.conv(embedded, x, keep)
            states = [*states, x] if keep_all else [x]
        return states

    @property
    def takes_packed(self) -> bool:
        """Whether texts may be laid end to end: tokens meet in the attention alone, which is everywhere the same."""
        return self.config.takes_packed

    def _layers(self) -> Iterator[nn.Module]:
        """The blocks in the order in which they are applied, shared ones again and again."""
        if self.config.n_groups is None:
            yield from self.blocks
            return
        for layer in range(self.config.n_layers):
            yield from self.blocks[self.config.group_of(layer)]

    def _contexts(
        self, x: Tensor, keep: Tensor | None, global_attention: Tensor | None
    ) -> list[tuple[object, ...]]:
        """What each layer's attention wants besides x: one for all layers, or one a layer."""
        config, length, dtype = self.config, x.shape[1], product_dtype(x)
        if config.windows is not None:
            flags = None if global_attention is None else global_attention.bool()
            if flags is not None and keep is not None:
                flags = flags & keep
            like = torch.empty(0, dtype=dtype, device=x.device)
            made = {
                window: window_context(length, window, keep, flags, like) for window in set(config.windows)
            }
            return [(made[window],) for window in config.windows]
        if global_attention is not None:
            raise ArrieroError(
                f"global_attention is Longformer's; a model of family '{config.family}' has none"
            )
        if config.attention == "disentangled":
            relative = None if self.positions is None else self.positions(length)
            return [(relative, None if keep is None else pair_mask(keep, dtype))]
        return [(None, None if keep is None else key_mask(keep, dtype))]

    def forward(self, ids: Tensor, **inputs: Unpack[Inputs]) -> Any:
        """What the task asks for. ``ids`` are [B, T]; for multiple choice they and all the others are [B, C, T].

        Returns:
            none: vectors [B, T, d_model]. masked_lm: logits [B, T, vocab_size]. pretraining: those and [B, 2].
            next_sentence: [B, 2].
            sequence_classification: [B, n_labels]. token_classification: [B, T, n_labels]. multiple_choice: [B, C].
            question_answering: two of [B, T], start and end.
        """
        if inputs.get("global_attention") is None and self.config.attention == "window":
            inputs["global_attention"] = self.task_globals(ids)
        if self.config.task != "multiple_choice":
            return self.output(self.hidden(ids, **inputs))
        flat = {name: value.flatten(0, 1) for name, value in inputs.items() if isinstance(value, Tensor)}
        return self.output(self.hidden(ids.flatten(0, 1), **flat)).view(ids.shape[:2])

    def output(self, hidden: Tensor) -> Any:
        """The head on the body's vectors [B, T, d_model]; see :meth:`forward`."""
        if self.head is None:
            return hidden
        pooled = None if self.pooler is None else self.pooler(hidden)
        return self.head(hidden, pooled, self.embedding.word)

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Mean loss of the task, a scalar; ``outputs`` are :meth:`forward`'s.

        Args:
            labels: masked_lm, token_classification: int64 [B, T], -100 does not count. pretraining: a pair of that and
                int64 [B]. next_sentence, multiple_choice: int64 [B]. question_answering: a pair of int64 [B]. sequence_classification:
                int64 [B], or float [B] or [B, n_labels]; see :func:`arriero.models.heads.sequence_loss`.

        Raises:
            ArrieroError: the model is a body without a head.
        """
        if self.head is None:
            raise ArrieroError("a body without a head has no loss; give the configuration a task")
        return self.head.loss(outputs, labels)

    def word_logits(self, hidden: Tensor) -> Tensor:
        """Scores of the words at chosen places: hidden [..., d_model] -> [..., vocab_size].

        Raises:
            ArrieroError: the model has no masked LM head.
        """
        if not isinstance(self.head, MaskedLMHead):
            raise ArrieroError(f"a model for task '{self.config.task}' has no masked LM head")
        return self.head.scores(hidden, self.embedding.word)

    @property
    def logits(self) -> Callable[[Tensor], Tensor]:
        """:meth:`word_logits` under the name that models with a head over a vocabulary share; others lack it."""
        if not isinstance(self.head, MaskedLMHead):
            raise AttributeError(f"a model for task '{self.config.task}' has no masked LM head")
        return self.word_logits

    def pair_logits(self, hidden: Tensor) -> Tensor:
        """Scores of the two labels of a pair of segments: hidden [B, T, d_model] -> [B, 2].

        Raises:
            ArrieroError: the model has no head over pairs.
        """
        if not isinstance(self.head, (PretrainingHead, PairHead)) or self.pooler is None:
            raise ArrieroError(f"a model for task '{self.config.task}' has no head over pairs of segments")
        result: Tensor = self.head.pair(self.pooler(hidden))
        return result

    def task_globals(self, ids: Tensor) -> Tensor | None:
        """Longformer's global attention as the task has it (arXiv 2004.05150, section 3.1; transformers).

        sequence_classification: the first token. question_answering: the question, up to the first separator.
        multiple_choice: what follows the second of them. Other tasks: none.

        Raises:
            ArrieroError: a row has not the three separators by which question and text are told apart.
        """
        task = self.config.task
        if task == "sequence_classification":
            return torch.arange(ids.shape[-1], device=ids.device).eq(0).expand_as(ids)
        if task not in ("question_answering", "multiple_choice"):
            return None
        separators = ids == self.config.sep_id
        if values_known(separators) and not bool((separators.sum(-1) == 3).all()):
            raise ArrieroError(
                f"every row should have three separators (id {self.config.sep_id}); else give global_attention"
            )
        end = separators.int().argmax(-1, keepdim=True)
        places = torch.arange(ids.shape[-1], device=ids.device)
        return places < end if task == "question_answering" else places > end + 1

    def parameter_counts(self) -> dict[str, int]:
        """Trainable parameters by part; tied and shared ones count once."""
        return count_by_part(self)

    def pseudo_logprobs(self, sequences: Sequence[Sequence[int]], mask_id: int) -> list[np.ndarray]:
        """Natural-log p(x_t | all other tokens); see :func:`arriero.models.masked_scoring.pseudo_logprobs`."""
        return pseudo_logprobs(self, sequences, mask_id)

    def embed(
        self, sequences: Sequence[Sequence[int]], *, pooling: str = "mean", normalise: bool = True
    ) -> np.ndarray:
        """One vector per sequence, float32 [N, d_model]; see :func:`arriero.models.sentence_embedding.embed`."""
        return embed(self, sequences, pooling=pooling, normalise=normalise)

    def classify(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Probabilities per sequence; see :func:`arriero.models.sentence_embedding.classify`."""
        return classify(self, sequences)


def _block(config: EncoderConfig) -> Block:
    attention: nn.Module
    if config.windows is not None:
        attention = WindowAttention(config.d_model, config.n_heads)
    elif config.attention == "disentangled":
        attention = DisentangledAttention(config)
    else:
        attention = Attention(
            config.d_model, config.n_heads, config.n_heads, config.head_dim,
            causal=False, qkv_bias=True, out_bias=True,
        )  # fmt: skip
    feed_forward = FeedForward(config.d_model, config.d_ff, config.activation, gated=False, bias=True)
    return Block(
        config.d_model, attention, feed_forward,
        norm="layer", eps=config.norm_eps, arrangement="post", dropout=config.dropout,
    )  # fmt: skip


def _group(config: EncoderConfig) -> nn.ModuleList:
    return nn.ModuleList(_block(config) for _ in range(config.group_size))


def _real_tokens(attention_mask: Tensor | None) -> Tensor | None:
    """bool [B, T], False for padding; None where nothing is, so that no mask is worked out."""
    if attention_mask is None:
        return None
    keep = attention_mask.bool()
    return None if values_known(keep) and bool(keep.all()) else keep
