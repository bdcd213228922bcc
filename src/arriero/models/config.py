"""The decoder's configuration: every figure that fixes its shape."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from arriero.errors import ArrieroError


class DecoderConfig(BaseModel):
    """Shape of a Llama-3-type decoder. ``model_dump()`` is what a model's spec holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(ge=1, description="rows of the embedding table")
    d_model: int = Field(ge=1, description="width of the residual stream")
    n_layers: int = Field(ge=1, description="decoder blocks")
    n_heads: int = Field(ge=1, description="query heads")
    n_kv_heads: int = Field(
        ge=1, description="key and value heads; each serves n_heads / n_kv_heads query heads"
    )
    head_dim: int = Field(ge=2, description="width of a head; by default d_model / n_heads")
    d_ff: int = Field(ge=1, description="width of the feed-forward layer")
    context_length: int = Field(ge=1, description="longest sequence in tokens")
    rope_theta: float = Field(default=500000.0, gt=0, description="base of the rotary frequencies")
    norm_eps: float = Field(default=1e-5, gt=0, description="added to the mean square under the root")
    tie_embeddings: bool = Field(default=True, description="the head shares the embedding table")
    init_std: float = Field(default=0.02, gt=0, description="standard deviation of fresh weights")

    @model_validator(mode="before")
    @classmethod
    def _default_head_dim(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("head_dim") is None:
            d_model, n_heads = values.get("d_model"), values.get("n_heads")
            if isinstance(d_model, int) and isinstance(n_heads, int) and n_heads > 0:
                if d_model % n_heads:
                    raise ValueError(
                        f"d_model {d_model} is not a multiple of n_heads {n_heads}; set head_dim"
                    )
                values = {**values, "head_dim": d_model // n_heads}
        return values

    @model_validator(mode="after")
    def _check_heads(self) -> DecoderConfig:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim {self.head_dim} is odd; rotary embedding turns pairs, so it must be even"
            )
        return self

    @classmethod
    def parse(cls, values: dict[str, Any], where: str) -> DecoderConfig:
        """Validate ``values``; ``where`` names their origin in the error.

        Raises:
            ArrieroError: a value is missing, of the wrong kind or does not fit the others.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ArrieroError(f"{where}: {name + ': ' if name else ''}{message}") from None

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part; a tied head counts once, under embedding."""
        table = self.vocab_size * self.d_model
        all_heads = (self.n_heads + self.n_kv_heads) * self.head_dim
        return {
            "embedding": table,
            "attention": self.n_layers * self.d_model * 2 * all_heads,
            "feed_forward": self.n_layers * self.d_model * 3 * self.d_ff,
            "norm": self.d_model * (2 * self.n_layers + 1),
            "head": 0 if self.tie_embeddings else table,
        }
