"""The configuration of the feed-forward language model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from arriero.models.carrying_config import CarryingConfig


class FeedForwardConfig(CarryingConfig):
    """Shape of Bengio's network. It sees ``window`` tokens at any place of a text of any length."""

    family: Literal["feedforward"] = Field(default="feedforward", description="always feedforward")
    d_model: int = Field(ge=1, description="width of the hidden layer")
    d_embedding: int = Field(default=32, ge=1, description="width of the embedding")
    window: int = Field(
        default=16, ge=1, description="tokens that the next one is told from: n - 1 of an n-gram"
    )
    direct: bool = Field(default=True, description="a linear path from the embeddings to the logits")

    init_std: float = Field(
        default=1.0,
        gt=0,
        description="standard deviation of fresh embeddings; other weights follow their width",
    )

    @property
    def inputs(self) -> int:
        """Width of the window's embeddings side by side."""
        return self.window * self.d_embedding

    @property
    def width(self) -> int:
        """Width of what goes into the head: the hidden layer and, for the direct path, its input."""
        return self.d_model + (self.inputs if self.direct else 0)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part: V m, h (n-1) m + h, V h + V, and for the direct path V (n-1) m (+ V for its own bias)."""
        v = self.vocab_size
        counts = {
            "embedding": v * self.d_embedding,
            "feed_forward": self.d_model * (self.inputs + 1),
            "head": v * (self.d_model + 1),
        }
        if self.direct:
            counts["direct"] = v * (self.inputs + self.two_biases)
        return counts
