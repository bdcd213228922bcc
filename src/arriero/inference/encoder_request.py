"""What is asked of the encoder engine and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

EncoderTask = Literal["embed", "classify", "rerank"]


@dataclass(frozen=True)
class EncoderInput:
    """One text, or a pair of them, as the model reads it.

    Attributes:
        ids: special tokens included.
        segments: of each token, 0 or 1; None: all of them 0.
    """

    ids: tuple[int, ...]
    segments: tuple[int, ...] | None = None


@dataclass(frozen=True)
class EncoderRequest:
    """Texts to work on; ``EncoderEngine.read`` and ``read_pairs`` make the inputs.

    Attributes:
        dimensions: with ``embed``, keep so many of a vector's numbers (Matryoshka, arXiv 2205.13147); None: all.
        normalise: with ``embed``, vectors of length 1; None: as the model's folder says.
    """

    task: EncoderTask
    inputs: tuple[EncoderInput, ...]
    dimensions: int | None = None
    normalise: bool | None = None

    @property
    def tokens(self) -> int:
        """Tokens of all inputs."""
        return sum(len(i.ids) for i in self.inputs)


@dataclass(frozen=True)
class EncoderEvent:
    """The end of a request: there are no others.

    Attributes:
        values: one for each input, in the order asked: a vector [dimensions], probabilities [labels] or a score [1],
            float32; None for an abort.
        finish_reason: "stop" or "abort".
    """

    request_id: int
    values: list[np.ndarray] | None
    finish_reason: Literal["stop", "abort"]


@dataclass(frozen=True)
class Classification:
    """Classes of one text.

    Attributes:
        label: the most probable; of a regression the only one.
        probabilities: label -> probability; independent ones where several labels may hold at once. A regression's
            figure as it is.
    """

    label: str
    probabilities: dict[str, float]
    tokens: int
