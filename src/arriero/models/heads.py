"""What stands on an encoder's body: one small head per task, with its loss (the losses are transformers')."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.activation import ACTIVATIONS
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.linear import Linear
from arriero.models.layers.norm import LayerNorm

IGNORED = -100
"""Label of a token that has no part in the loss."""


class Pooler(nn.Module):
    """The first token's vector through a dense layer: hidden [B, T, d] -> [B, d]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = Linear(config.d_model, config.d_model, bias=True)
        self.activation = ACTIVATIONS[config.pooler_activation]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden[:, 0]))


class Head(nn.Module, ABC):
    """Base of the heads.

    ``forward`` takes the body's vectors [B, T, d], its pooler's [B, d] (None where the task has none) and the word
    table; ``loss`` takes what ``forward`` gave and the labels.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Mean loss, a scalar in float32."""

    def drop(self, x: Tensor) -> Tensor:
        """Dropout before the classifier."""
        config = self.config
        share = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        return F.dropout(x, share, self.training)


class MaskedLMHead(Head):
    """Scores of every word at every place. ``bias`` [V] is the output's; untied, ``decoder`` has weight and bias."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.dense = Linear(config.d_model, config.table_width, bias=True)
        self.activation = ACTIVATIONS[config.mlm_activation or config.activation]
        self.norm = LayerNorm(config.table_width, config.norm_eps)
        if config.tie_embeddings:
            self.decoder = None
            self.bias = nn.Parameter(torch.empty(config.vocab_size))
        else:
            self.decoder = Linear(config.table_width, config.vocab_size, bias=True)
            # transformers stores a second bias beside an untied decoder, which nothing reads
            self.register_buffer("bias", torch.zeros(config.vocab_size))

    def scores(self, hidden: Tensor, table: Embedding) -> Tensor:
        """hidden [..., d] -> logits [..., V]."""
        x = self.norm(self.activation(self.dense(hidden)))
        result: Tensor = table.as_head(x, self.bias) if self.decoder is None else self.decoder(x)
        return result

    def forward(self, hidden: Tensor, pooled: Tensor | None, table: Embedding) -> Any:
        """Logits [B, T, V]."""
        return self.scores(hidden, table)

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Mean cross-entropy over the tokens whose label [B, T] is not IGNORED."""
        return cross_entropy(outputs.flatten(0, -2), labels.flatten())


class PretrainingHead(MaskedLMHead):
    """Masked LM, and whether two segments belong together: next sentence (BERT) or sentence order (ALBERT)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.pair = Linear(config.d_model, 2, bias=True)

    def forward(self, hidden: Tensor, pooled: Tensor | None, table: Embedding) -> Any:
        """Logits of the words [B, T, V] and of the pair [B, 2]."""
        assert pooled is not None
        return self.scores(hidden, table), self.pair(pooled)

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Sum of both cross-entropies; ``labels`` are those of the words [B, T] and of the pair [B]."""
        return super().loss(outputs[0], labels[0]) + cross_entropy(outputs[1], labels[1].flatten())


class PairHead(Head):
    """Whether the second segment follows the first (BERT): logits [B, 2]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.pair = Linear(config.d_model, 2, bias=True)

    def forward(self, hidden: Tensor, pooled: Tensor | None, table: Embedding) -> Any:
        return self.pair(pooled)

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Mean cross-entropy, labels int64 [B]: 0 follows, 1 does not."""
        return cross_entropy(outputs, labels.flatten())


class SequenceHead(Head):
    """Classes or figures of a whole sequence: logits [B, n_labels]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.pooler = Pooler(config) if config.has_head_pooler else None
        self.dense = Linear(config.d_model, config.d_model, bias=True) if config.dense_classifier else None
        self.out = Linear(config.d_model, config.n_labels, bias=True)

    def forward(self, hidden: Tensor, pooled: Tensor | None, table: Embedding) -> Any:
        if self.dense is not None:
            x = torch.tanh(self.dense(self.drop(hidden[:, 0])))
        else:
            x = _pooled(self.pooler, hidden, pooled)
        return self.out(self.drop(x))

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """By ``config.problem``, or told from the labels: see :func:`sequence_loss`."""
        return sequence_loss(outputs, labels, self.config)


class TokenHead(Head):
    """Classes of each token: logits [B, T, n_labels]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.out = Linear(config.d_model, config.n_labels, bias=True)

    def forward(self, hidden: Tensor, pooled: Tensor | None, table: Embedding) -> Any:
        return self.out(self.drop(hidden))

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Mean cross-entropy over the tokens whose label [B, T] is not IGNORED."""
        return cross_entropy(outputs.flatten(0, -2), labels.flatten())


class ChoiceHead(Head):
    """One figure per candidate: [B * C, 1]; the model lays the candidates side by side."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.pooler = Pooler(config) if config.has_head_pooler else None
        self.out = Linear(config.d_model, 1, bias=True)

    def forward(self, hidden: Tensor, pooled: Tensor | None, table: Embedding) -> Any:
        return self.out(self.drop(_pooled(self.pooler, hidden, pooled)))

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Mean cross-entropy of the right candidate: outputs [B, C], labels [B]."""
        return cross_entropy(outputs, labels.flatten())


class SpanHead(Head):
    """Where an answer starts and ends: two logits [B, T]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.out = Linear(config.d_model, 2, bias=True)

    def forward(self, hidden: Tensor, pooled: Tensor | None, table: Embedding) -> Any:
        start, end = self.out(hidden).unbind(-1)
        return start, end

    def loss(self, outputs: Any, labels: Any) -> Tensor:
        """Mean of the cross-entropies of start and end; ``labels`` are both [B], places outside do not count."""
        length = outputs[0].shape[1]
        losses = []
        for logits, places in zip(outputs, labels, strict=True):
            places = places.flatten().clamp(0, length)
            losses.append(cross_entropy(logits, places.masked_fill(places == length, IGNORED)))
        return (losses[0] + losses[1]) / 2


HEADS: dict[str, type[Head]] = {
    "masked_lm": MaskedLMHead,
    "pretraining": PretrainingHead,
    "next_sentence": PairHead,
    "sequence_classification": SequenceHead,
    "token_classification": TokenHead,
    "multiple_choice": ChoiceHead,
    "question_answering": SpanHead,
}


def _pooled(pooler: Pooler | None, hidden: Tensor, pooled: Tensor | None) -> Tensor:
    result = pooled if pooler is None else pooler(hidden)
    assert result is not None
    return result


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-probability: logits [N, C], labels int64 [N]; negative labels do not count. 0 if none does."""
    real = labels >= 0
    total = F.cross_entropy(
        logits.float(), labels.masked_fill(~real, IGNORED), ignore_index=IGNORED, reduction="sum"
    )
    return total / real.sum().clamp(min=1)


def sequence_loss(logits: Tensor, labels: Tensor, config: EncoderConfig) -> Tensor:
    """Loss of sequence classification, logits [B, n_labels].

    regression: mean square error, labels [B] or [B, n_labels]; single label: cross-entropy, labels int64 [B]; multi
    label: binary cross-entropy, labels float [B, n_labels]. Where ``config.problem`` is None: one output is
    regression, integer labels are single, others multi label (DeBERTa: probabilities of the classes).
    """
    problem = config.problem
    flat = labels.dim() == 1 or labels.shape[-1] == 1
    if problem is None and config.n_labels == 1:
        problem = "regression"
    if problem is None and (flat if config.soft_labels else not labels.is_floating_point()):
        problem = "single_label_classification"
    wide = logits.float()
    if problem == "regression":
        return F.mse_loss(wide.view(labels.shape), labels.float())
    if problem == "single_label_classification":
        return cross_entropy(wide, labels.flatten().long())
    if problem is None and config.soft_labels:
        return -(F.log_softmax(wide, dim=-1) * labels).sum(-1).mean()
    return F.binary_cross_entropy_with_logits(wide, labels.float())
