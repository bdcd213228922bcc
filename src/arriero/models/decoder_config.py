"""The configuration of decoder-only models: one switchboard from GPT-1 to Llama 3."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig

Activation = Literal["silu", "gelu", "gelu_tanh", "gelu_quick", "relu"]
NormKind = Literal["rms", "layer"]
Arrangement = Literal["pre", "post", "parallel"]


class RopeScaling(BaseModel):
    """How rotary frequencies are stretched so that a model reads more than it was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear", "dynamic", "yarn", "llama3"] = Field(
        description="linear = positions divided; dynamic = base grows with the length (NTK); yarn; llama3"
    )
    factor: float = Field(gt=0, description="how many times longer")
    original_context_length: int | None = Field(
        default=None, ge=1, description="tokens of the context before it was stretched (yarn, llama3)"
    )
    low_freq_factor: float = Field(default=1.0, gt=0, description="llama3: slower turns are all divided")
    high_freq_factor: float = Field(default=4.0, gt=0, description="llama3: faster turns are left alone")
    beta_fast: float = Field(default=32.0, gt=0, description="yarn: turns in the context, above: left alone")
    beta_slow: float = Field(default=1.0, gt=0, description="yarn: turns in the context, below: all divided")
    attention_factor: float | None = Field(
        default=None, gt=0, description="yarn: factor of cosines and sines; by default 0.1 ln(factor) + 1"
    )
    truncate: bool = Field(default=True, description="yarn: the ramp starts and ends at whole dimensions")

    @model_validator(mode="after")
    def _has_its_figures(self) -> RopeScaling:
        if self.kind in ("yarn", "llama3") and self.original_context_length is None:
            raise ValueError(f"rotary scaling '{self.kind}' needs original_context_length")
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError("high_freq_factor must be above low_freq_factor")
        return self


class DecoderConfig(ModelConfig):
    """Shape and switches of a decoder. The defaults are Llama 3's."""

    family: str = Field(default="llama", description="whose names and files: a decoder family")
    d_model: int = Field(ge=1, description="width of the residual stream")
    n_layers: int = Field(ge=1, description="decoder blocks")
    n_heads: int = Field(ge=1, description="query heads")
    n_kv_heads: int = Field(
        ge=1, description="key and value heads; each serves n_heads / n_kv_heads query heads"
    )
    head_dim: int = Field(ge=1, description="width of a head; by default d_model / n_heads")
    d_ff: int = Field(ge=1, description="width of the feed-forward layer")
    context_length: int = Field(ge=1, description="longest sequence in tokens")
    tie_embeddings: bool = Field(default=True, description="the head shares the embedding table")

    norm: NormKind = Field(default="rms", description="rms = RMSNorm; layer = LayerNorm")
    norm_eps: float = Field(default=1e-5, gt=0, description="added to the variance under the root")
    norm_bias: bool = Field(default=True, description="LayerNorm has a bias (RMSNorm never has)")
    arrangement: Arrangement = Field(
        default="pre", description="norms before the branches, after them, or both branches side by side"
    )
    parallel_norms: Literal[1, 2] = Field(
        default=2, description="side by side: both branches read one norm, or each its own"
    )
    final_norm: bool = Field(default=True, description="a norm after the last block")
    embedding_norm: bool = Field(default=False, description="a norm right after the embedding (BLOOM)")

    positions: Literal["rotary", "learned", "alibi", "sinusoidal", "relative", "none"] = Field(
        default="rotary", description="how a token's place is told (relative: Transformer-XL's)"
    )
    top_query: bool = Field(
        default=False,
        description="the last block's queries are learned, one for each place, and the norm comes before it (CodeGeeX)",
    )
    position_offset: int = Field(default=0, ge=0, description="unused first rows of the learned table (OPT)")
    rope_theta: float = Field(default=500000.0, gt=0, description="base of the rotary frequencies")
    rotary_dim: int | None = Field(
        default=None, ge=2, description="dimensions of a head that turn; by default all"
    )
    rope_scaling: RopeScaling | None = Field(default=None, description="stretching of rotary frequencies")
    sliding_window: int | None = Field(
        default=None, ge=1, description="a token sees itself and so many - 1 before it; by default all"
    )

    activation: Activation = Field(default="silu", description="non-linearity of the feed-forward layer")
    gated: bool = Field(default=True, description="feed-forward with a gate (SwiGLU, arXiv 2002.05202)")
    qkv_bias: bool = Field(default=False, description="biases in queries, keys and values")
    out_bias: bool = Field(default=False, description="a bias after attention")
    feed_forward_bias: bool = Field(default=False, description="biases in the feed-forward layer")
    head_bias: bool = Field(default=False, description="a bias on the logits")

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_follow(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        d_model, n_heads = values.get("d_model"), values.get("n_heads")
        if values.get("n_kv_heads") is None and n_heads is not None:
            values["n_kv_heads"] = n_heads
        if (
            values.get("head_dim") is None
            and isinstance(d_model, int)
            and isinstance(n_heads, int)
            and n_heads > 0
        ):
            if d_model % n_heads:
                raise ValueError(f"d_model {d_model} is not a multiple of n_heads {n_heads}; set head_dim")
            values["head_dim"] = d_model // n_heads
        return values

    @model_validator(mode="after")
    def _fits(self) -> DecoderConfig:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        if self.positions == "rotary":
            self._check_rotary()
        elif self.rope_scaling is not None or self.rotary_dim is not None:
            raise ValueError(f"rotary settings have no meaning with positions '{self.positions}'")
        if self.top_query and (self.positions != "learned" or self.arrangement != "pre"):
            raise ValueError("top_query goes with positions 'learned' and arrangement 'pre'")
        if self.embedding_norm and self.norm != "layer":
            raise ValueError("embedding_norm goes with norm 'layer'")
        return self

    def _check_rotary(self) -> None:
        if self.rotary_width > self.head_dim:
            raise ValueError(f"rotary_dim {self.rotary_width} is more than head_dim {self.head_dim}")
        if self.rotary_width % 2:
            name = "head_dim" if self.rotary_dim is None else "rotary_dim"
            raise ValueError(
                f"{name} {self.rotary_width} is odd; rotary embedding turns pairs, so it must be even"
            )

    @property
    def rotary_width(self) -> int:
        """Dimensions of a head that turn."""
        return self.head_dim if self.rotary_dim is None else self.rotary_dim

    def kv_bytes_per_token(self, element_bytes: int = 2) -> int:
        """Bytes of keys and values that one token leaves in all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * element_bytes

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part, in closed form; a tied head counts once, under embedding."""
        d, ff = self.d_model, self.d_ff
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        attention = d * (2 * q + 2 * kv) + self.qkv_bias * (q + 2 * kv) + self.out_bias * d
        if self.positions == "relative":  # r_proj and two biases
            attention += q * (d + 2)
        feed_forward = (2 + self.gated) * d * ff + self.feed_forward_bias * ((1 + self.gated) * ff + d)
        norm = d * (2 if self.norm == "layer" and self.norm_bias else 1)
        block_norms = 1 if self.arrangement == "parallel" and self.parallel_norms == 1 else 2
        counts = {
            "embedding": self.vocab_size * d,
            "attention": self.n_layers * attention,
            "feed_forward": self.n_layers * feed_forward,
            "norm": norm * (block_norms * self.n_layers + self.final_norm + self.embedding_norm),
            "head": (0 if self.tie_embeddings else self.vocab_size * d) + self.head_bias * self.vocab_size,
        }
        if self.positions == "learned":
            counts["positions"] = (
                self.context_length + self.position_offset + self.top_query * self.context_length
            ) * d
        return counts


def decoder_config(values: dict[str, Any], what: str) -> DecoderConfig:
    """The decoder that a model's spec holds; ``what`` names the model in the error.

    Raises:
        ArrieroError: the model is of another kind.
    """
    from arriero.models.families import FAMILIES, get_family

    family = values.get("family", "llama")
    if family not in FAMILIES or get_family(family).config is not DecoderConfig:
        raise ArrieroError(f"{what} is of the family {family}; this stage needs a decoder (GPT, Llama ...)")
    return DecoderConfig.parse(values, what)
