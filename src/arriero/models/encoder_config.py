"""The encoder's configuration: the switchboard of BERT, RoBERTa, ALBERT, DeBERTa and Longformer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from arriero.models.config import ModelConfig

Task = Literal[
    "none",
    "masked_lm",
    "pretraining",
    "next_sentence",
    "sequence_classification",
    "token_classification",
    "multiple_choice",
    "question_answering",
]
Problem = Literal["regression", "single_label_classification", "multi_label_classification"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "tanh"]
PositionTerm = Literal["c2p", "p2c"]


class EncoderConfig(ModelConfig):
    """Shape of a bidirectional encoder and of the head on it. The defaults are BERT's."""

    family: str = Field(default="bert", description="family whose files and names the model has")
    task: Task = Field(default="none", description="what the head is for; none: the body alone")

    d_model: int = Field(ge=1, description="width of the residual stream")
    n_layers: int = Field(ge=1, description="times that a block is applied")
    n_heads: int = Field(ge=1, description="attention heads")
    d_ff: int = Field(ge=1, description="width of the feed-forward layer")
    activation: Activation = Field(default="gelu", description="of the feed-forward layer")
    norm_eps: float = Field(default=1e-12, gt=0, description="added to the variance under the root")
    n_groups: int | None = Field(
        default=None,
        ge=1,
        description="groups of blocks that the layers share (ALBERT); None: nothing is shared",
    )
    group_size: int = Field(
        default=1, ge=1, description="blocks in a group, all applied in each of its layers"
    )

    context_length: int = Field(ge=1, description="rows of the position table")
    positions: Literal["absolute", "skip_padding", "none"] = Field(
        default="absolute",
        description="absolute: 0, 1, 2 ...; skip_padding: from pad_id + 1, padding not counted",
    )
    n_segments: int = Field(default=2, ge=0, description="rows of the segment table; 0: none")
    embedding_size: int | None = Field(default=None, ge=1, description="width of the tables; None: d_model")
    embedding_projection: Literal["none", "after_norm", "before_norm"] = Field(
        default="none", description="where the tables' width becomes d_model; with a bias after the norm"
    )
    mask_embeddings: bool = Field(default=False, description="vectors of padding are set to 0")
    pad_id: int | None = Field(default=0, ge=0, description="id of the padding token")
    sep_id: int | None = Field(default=None, ge=0, description="id of the token that ends a segment")

    attention: Literal["full", "disentangled", "window"] = Field(
        default="full",
        description="all to all; content and relative position apart (DeBERTa); Longformer's window",
    )
    relative_attention: bool = Field(
        default=False, description="disentangled attention has its position terms"
    )
    position_terms: tuple[PositionTerm, ...] = Field(
        default=(), description="terms of disentangled attention: content to position, position to content"
    )
    relative_span: int | None = Field(
        default=None, ge=1, description="largest distance told apart; None: context_length"
    )
    relative_buckets: int | None = Field(
        default=None,
        ge=2,
        description="logarithmic buckets of distances on either side; None: one a distance",
    )
    share_relative_projections: bool = Field(
        default=False, description="positions go through the projections of the content"
    )
    relative_key_bias: bool = Field(default=True, description="the projection of position keys has a bias")
    relative_norm: bool = Field(default=False, description="the relative table is normalised")
    key_bias: bool = Field(default=True, description="the projection of keys has a bias")
    conv_kernel: int = Field(default=0, ge=0, description="width of the convolution beside layer 0; 0: none")
    conv_groups: int = Field(default=1, ge=1, description="groups of channels of that convolution")
    conv_activation: Activation = Field(default="tanh", description="of that convolution")

    mask_decoder_steps: int = Field(
        default=0,
        ge=0,
        description="times that the masked LM's decoder with absolute positions applies the last block; 0: none",
    )

    windows: tuple[int, ...] | None = Field(
        default=None, description="tokens that each layer's attention spans, half on either side; None: all"
    )

    body_pooler: bool = Field(default=True, description="the body of tasks on whole sequences has a pooler")
    pooler_activation: Activation = Field(default="tanh", description="of the pooler")
    dense_classifier: bool = Field(
        default=False, description="sequence classification has a layer of its own in place of the pooler"
    )
    classifier_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="before the classifier; None: dropout"
    )
    mlm_activation: Activation | None = Field(
        default=None, description="of the masked LM head; None: activation"
    )
    tie_embeddings: bool = Field(default=True, description="the masked LM head shares the word table")
    legacy_mlm: bool = Field(default=True, description="names of DeBERTa's masked LM head are BERT's")
    n_labels: int = Field(default=2, ge=1, description="outputs of the classifier")
    label_names: tuple[str, ...] | None = Field(default=None, description="names of the labels")
    problem: Problem | None = Field(
        default=None, description="loss of sequence classification; None: told from the labels"
    )
    soft_labels: bool = Field(
        default=False, description="float labels of unknown problem are probabilities, not independent yes/no"
    )

    @model_validator(mode="before")
    @classmethod
    def _label_count(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("label_names") and "n_labels" not in values:
            values = {**values, "n_labels": len(values["label_names"])}
        return values

    @model_validator(mode="after")
    def _check(self) -> EncoderConfig:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.embedding_projection == "none" and self.table_width != self.d_model:
            raise ValueError(
                f"embedding_size {self.table_width} needs a projection to d_model {self.d_model}"
            )
        if self.n_groups is not None and self.n_groups > self.n_layers:
            raise ValueError(f"n_groups {self.n_groups} is more than n_layers {self.n_layers}")
        if self.positions == "skip_padding" and self.pad_id is None:
            raise ValueError("positions that skip padding need pad_id")
        if self.label_names is not None and len(self.label_names) != self.n_labels:
            raise ValueError(f"{len(self.label_names)} label_names for n_labels {self.n_labels}")
        if self.task == "question_answering" and self.n_labels != 2:
            raise ValueError(f"question answering has 2 outputs (start and end), not {self.n_labels}")
        if self.conv_kernel and not self.conv_kernel % 2:
            raise ValueError(f"conv_kernel {self.conv_kernel} is even; it should be odd to keep the length")
        if self.mask_decoder_steps and (self.attention != "disentangled" or self.positions != "none"):
            raise ValueError("mask_decoder_steps go with attention 'disentangled' and positions 'none'")
        self._check_windows()
        return self

    def _check_windows(self) -> None:
        if (self.windows is not None) != (self.attention == "window"):
            raise ValueError("windows go with attention 'window', and it needs them")
        if self.relative_attention and self.attention != "disentangled":
            raise ValueError("relative_attention goes with attention 'disentangled'")
        if self.windows is None:
            return
        if len(self.windows) != self.n_layers:
            raise ValueError(f"{len(self.windows)} windows for {self.n_layers} layers")
        if any(window < 2 or window % 2 for window in self.windows):
            raise ValueError(f"windows {list(self.windows)} should be even and positive")

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads

    @property
    def n_kv_heads(self) -> int:
        """Key and value heads: as many as query heads."""
        return self.n_heads

    @property
    def table_width(self) -> int:
        """Width of the word, position and segment tables."""
        return self.embedding_size or self.d_model

    @property
    def longest(self) -> int | None:
        """Longest sequence in tokens; None where no table limits it."""
        if self.positions == "none":
            return None
        return self.context_length - ((self.pad_id or 0) + 1 if self.positions == "skip_padding" else 0)

    @property
    def span(self) -> int:
        """Rows of the relative table on either side of distance 0."""
        return self.relative_buckets or self.relative_span or self.context_length

    @property
    def has_body_pooler(self) -> bool:
        """Whether this task's body ends in a pooler over the first token."""
        whole = self.task in ("none", "pretraining", "next_sentence", "multiple_choice")
        return self.body_pooler and (
            whole or (self.task == "sequence_classification" and not self.dense_classifier)
        )

    @property
    def has_head_pooler(self) -> bool:
        """Whether the pooler belongs to the head (DeBERTa), not to the body."""
        return not self.body_pooler and self.task in ("sequence_classification", "multiple_choice")

    @property
    def takes_packed(self) -> bool:
        """Whether texts may be laid end to end: tokens meet in the attention alone, which is everywhere the same."""
        return self.attention == "full" and not self.conv_kernel and not self.has_mask_decoder

    @property
    def has_mask_decoder(self) -> bool:
        """Whether the last block is the enhanced mask decoder's."""
        return self.mask_decoder_steps > 0 and self.task == "masked_lm"

    def group_of(self, layer: int) -> int:
        """Group of shared blocks that a layer applies."""
        return int(layer / (self.n_layers / (self.n_groups or self.n_layers)))
