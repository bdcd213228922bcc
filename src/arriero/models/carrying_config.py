"""What the configurations of small nets share."""

from __future__ import annotations

from pydantic import Field

from arriero.models.config import ModelConfig


class CarryingConfig(ModelConfig):
    """Base of ``RecurrentConfig`` and ``FeedForwardConfig``: texts of any length, embeddings that start wide."""

    two_biases: bool = Field(
        default=True,
        description="a bias for either of two products that are added; they only act as their sum",
    )

    @property
    def context_length(self) -> None:
        """No longest sequence."""
        return None
