"""The configuration of encoder-decoder models: the original Transformer, BART and T5."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from arriero.models.config import ModelConfig
from arriero.models.decoder_config import Activation, NormKind


class Seq2SeqConfig(ModelConfig):
    """Shape and switches of an encoder-decoder. The defaults are those of the original Transformer
    (Vaswani et al., arXiv 1706.03762)."""

    family: str = Field(default="transformer", description="whose names and files: transformer, bart or t5")
    d_model: int = Field(ge=1, description="width of the residual stream")
    encoder_layers: int = Field(ge=1, description="blocks that read the source")
    decoder_layers: int = Field(ge=1, description="blocks that write the target; by default as many")
    encoder_heads: int = Field(ge=1, description="heads of the encoder")
    decoder_heads: int = Field(ge=1, description="heads of the decoder; by default as many")
    head_dim: int | None = Field(
        default=None, ge=1, description="width of a head; by default d_model / heads of each side"
    )
    encoder_d_ff: int = Field(ge=1, description="width of the encoder's feed-forward layers")
    decoder_d_ff: int = Field(ge=1, description="width of the decoder's; by default the same")
    context_length: int = Field(
        default=512,
        ge=1,
        description="longest source and longest target in tokens; no bound for relative positions",
    )

    positions: Literal["sinusoidal", "sinusoidal_halves", "learned", "relative"] = Field(
        default="sinusoidal",
        description="sinusoids by turns (the paper) or sines before cosines (Marian); a table; T5's buckets",
    )
    position_offset: int = Field(
        default=0, ge=0, description="unused first rows of the learned tables (BART)"
    )
    relative_buckets: int = Field(default=32, ge=4, description="buckets of distances (T5)")
    relative_max_distance: int = Field(default=128, ge=2, description="from here on one bucket (T5)")

    norm: NormKind = Field(default="layer", description="layer = LayerNorm; rms = RMSNorm")
    norm_eps: float = Field(default=1e-5, gt=0, description="added to the variance under the root")
    arrangement: Literal["pre", "post"] = Field(
        default="post", description="norms before the branches (and after the last block), or after them"
    )
    embedding_norm: bool = Field(default=False, description="a norm right after the embedding (BART)")
    activation: Activation = Field(default="relu", description="non-linearity of the feed-forward layers")
    gated: bool = Field(default=False, description="feed-forward layers with a gate (T5 1.1)")
    bias: bool = Field(default=True, description="biases in the blocks' linear layers")
    scale_embedding: bool = Field(default=True, description="embeddings are multiplied by sqrt(d_model)")
    scale_attention: bool = Field(default=True, description="scores are divided by sqrt(head_dim); not in T5")
    tie_embeddings: bool = Field(default=True, description="the head shares the target's embedding table")
    share_embeddings: bool = Field(default=True, description="source and target share one embedding table")
    decoder_vocab_size: int | None = Field(
        default=None, ge=1, description="rows of the target's table where it has its own; by default as many"
    )
    scale_head: bool = Field(
        default=False, description="the head's input is divided by sqrt(d_model) (T5 1.0)"
    )
    head_bias: bool = Field(default=False, description="a fixed bias on the logits (Marian, BART)")
    init: Literal["glorot", "normal", "t5"] = Field(
        default="glorot",
        description="fresh weights: by fan-in and fan-out (tables d^-1/2); all with init_std; as in T5",
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of a branch's values set to zero in training"
    )

    pad_id: int = Field(default=0, ge=0, description="fills up shorter rows")
    eos_id: int = Field(default=1, ge=0, description="ends a source and a target")
    start_id: int = Field(default=0, ge=0, description="what the decoder reads first")

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_follow(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for name in ("layers", "heads", "d_ff"):
            if values.get(f"decoder_{name}") is None:
                values["decoder_" + name] = values.get(f"encoder_{name}")
        return values

    @model_validator(mode="after")
    def _fits(self) -> Seq2SeqConfig:
        for side in ("encoder_heads", "decoder_heads"):
            if self.head_dim is None and self.d_model % getattr(self, side):
                raise ValueError(
                    f"d_model {self.d_model} is not a multiple of {side} {getattr(self, side)}; set head_dim"
                )
        smaller = min(self.vocab_size, self.target_vocab_size)
        for name in ("pad_id", "eos_id", "start_id"):
            if getattr(self, name) >= smaller:
                raise ValueError(f"{name} {getattr(self, name)} is outside the vocabulary of {smaller}")
        if self.share_embeddings and self.target_vocab_size != self.vocab_size:
            raise ValueError("decoder_vocab_size goes with share_embeddings false")
        if self.positions == "relative" and self.relative_max_distance <= self.relative_buckets // 2:
            raise ValueError(
                f"relative_max_distance {self.relative_max_distance} should be more than half of "
                f"relative_buckets {self.relative_buckets}"
            )
        return self

    @property
    def target_vocab_size(self) -> int:
        """Tokens that a target may be made of."""
        return self.decoder_vocab_size or self.vocab_size

    @property
    def bounded(self) -> bool:
        """Whether a sequence longer than ``context_length`` has no positions."""
        return self.positions != "relative"

    def kv_bytes_per_token(self, element_bytes: int = 2) -> int:
        """Bytes of keys and values that one token of the target leaves in all layers; one of the source as many."""
        width = self.decoder_heads * (self.head_dim or self.d_model // self.decoder_heads)
        return 2 * self.decoder_layers * width * element_bytes
