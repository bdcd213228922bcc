"""The configuration of recurrent language models: Elman's network and the LSTM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from arriero.models.carrying_config import CarryingConfig

GATES = {"rnn": 1, "lstm": 4}
"""Family -> rows of a layer's matrices in units of the state's width: Elman's new state, or three gates and a
candidate."""


class RecurrentConfig(CarryingConfig):
    """Shape of a recurrent model. Its memory is its state, so there is no longest sequence."""

    family: Literal["rnn", "lstm"] = Field(default="lstm", description="rnn (Elman) or lstm")
    d_model: int = Field(ge=1, description="width of the state of every layer")
    n_layers: int = Field(default=1, ge=1, description="recurrent layers, one above the other")
    d_embedding: int = Field(default=0, ge=0, description="width of the embedding; 0 = d_model")
    init_std: float = Field(
        default=0.25,
        gt=0,
        description="standard deviation of fresh embeddings; other weights follow their width",
    )
    tie_embeddings: bool = Field(
        default=True,
        description="the head shares the embedding table (after a projection where widths differ)",
    )

    @property
    def embedding_width(self) -> int:
        return self.d_embedding or self.d_model

    @property
    def width(self) -> int:
        """Width of what goes into the head."""
        return self.embedding_width if self.tie_embeddings else self.d_model

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part, in closed form: a layer has g h (e + h) weights and g h biases, once or twice."""
        e, h = self.embedding_width, self.d_model
        rows = GATES[self.family] * h
        biases = self.n_layers * rows * (2 if self.two_biases else 1)
        projection = (h + 1) * e if self.tie_embeddings and e != h else 0
        return {
            "embedding": self.vocab_size * e,
            "recurrent": rows * (e + h) + (self.n_layers - 1) * rows * 2 * h + biases,
            "head": projection + self.vocab_size + (0 if self.tie_embeddings else self.vocab_size * h),
        }
