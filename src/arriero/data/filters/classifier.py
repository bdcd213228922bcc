"""A linear classifier of texts: logistic regression on hashed words and word pairs, its file, and the filter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import write_bytes_atomic
from arriero.data.filters.base import Doc, Verdict, at_stored_precision, is_near, numbers_of
from arriero.data.filters.settings import Classifier
from arriero.data.filters.word_features import buckets_of, prepare
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "arriero.classifier/1"
MOST_BITS = 26


@dataclass(frozen=True)
class LinearModel:
    """``weights`` float32 [2^bits] by bucket, the bias, and what the model says of itself."""

    weights: NDArray[np.float32]
    bias: float
    characters: int
    """How much of a text is looked at; 0: all."""
    card: Mapping[str, Any]

    @property
    def bits(self) -> int:
        return int(self.weights.size).bit_length() - 1

    def probability(self, text: str) -> float:
        """That the text is of the positive kind, from 0 to 1."""
        words, pairs = buckets_of(prepare(text, self.characters), self.bits)
        total = float(self.weights[words].sum(dtype=np.float64) + self.weights[pairs].sum(dtype=np.float64))
        logit = self.bias + total / max(words.size + pairs.size, 1)
        return float(1 / (1 + np.exp(-min(max(logit, -60.0), 60.0))))

    def save(self, path: Path) -> None:
        """One ``.safetensors`` whose header holds the card, whole or not at all."""
        from safetensors.numpy import save

        about = {
            "format": FORMAT,
            "bits": self.bits,
            "characters": self.characters,
            "bias": self.bias,
            "card": self.card,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(
            path, save({"weights": self.weights}, {"arriero": json.dumps(about, sort_keys=True)})
        )

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """What :meth:`save` wrote.

        Raises:
            ArrieroError: there is no file, or it is no such classifier.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise ArrieroError(f"there is no classifier {path}")
        try:
            with safe_open(path, "numpy") as file:
                about = json.loads((file.metadata() or {})["arriero"])
                if about["format"] != FORMAT or not 1 <= about["bits"] <= MOST_BITS:
                    raise ValueError
                weights = file.get_tensor("weights")
                if weights.shape != (1 << about["bits"],) or weights.dtype != np.float32:
                    raise ValueError
                return cls(weights, float(about["bias"]), int(about["characters"]), about["card"])
        except (SafetensorError, KeyError, ValueError, TypeError):
            raise ArrieroError(
                f"{path} is no classifier: it should be a .safetensors made by train_classifier"
            ) from None


class ClassifierFilter:
    """Measures ``m_quality_<name>``, the probability of the positive kind."""

    stage = "classifier"
    needs: Literal["record", "text"] = "text"

    def __init__(self, settings: Classifier) -> None:
        """Raises:
        ArrieroError: the classifier cannot be read.
        """
        self._settings = settings
        self._model = LinearModel.load(settings.path)
        self._column = f"m_quality_{settings.name}"
        self.reasons = (f"quality.{settings.name}.min", f"quality.{settings.name}.max")
        self._least = 0.0 if settings.min_score is None else settings.min_score
        self._most = 1.0 if settings.max_score is None else settings.max_score

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        return {self._column: at_stored_precision(self._model.probability(doc.text))}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        value = columns.get(self._column)
        if value is None:
            return None
        if value < self._least:
            return Verdict(self.reasons[0], value, self._least, is_near(value, self._least))
        if value > self._most:
            return Verdict(self.reasons[1], value, self._most, is_near(value, self._most))
        return None

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        value = numbers_of(table, self._column)
        return np.where(value < self._least, 0, np.where(value > self._most, 1, -1))
