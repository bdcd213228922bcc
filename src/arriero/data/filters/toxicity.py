"""How toxic a text is: the probability by a linear classifier, and the density of a list's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arriero.data.filters.base import Doc, Verdict, at_stored_precision, is_near, numbers_of
from arriero.data.filters.classifier import LinearModel
from arriero.data.filters.lists import per_1000_words, read_phrases
from arriero.data.filters.settings import Toxicity

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN = "m_toxicity"


class ToxicityFilter:
    """Measures ``m_toxicity``, from 0 to 1."""

    stage = "classifier"
    needs: Literal["record", "text"] = "text"
    reasons = ("toxicity.max_score",)

    def __init__(self, settings: Toxicity) -> None:
        """Raises:
        ArrieroError: the classifier or the list cannot be read.
        """
        self._most = settings.max_score
        self._model = LinearModel.load(settings.classifier) if settings.classifier else None
        self._phrases = read_phrases(settings.words) if settings.words else None

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        score = self._model.probability(doc.text) if self._model else 0.0
        if self._phrases:
            score = max(score, 1 - 0.9 ** per_1000_words(*self._phrases.hits(doc.text)))
        return {COLUMN: at_stored_precision(score)}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        value = columns.get(COLUMN)
        if value is not None and value > self._most:
            return Verdict(self.reasons[0], value, self._most, is_near(value, self._most))
        return None

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        return np.where(numbers_of(table, COLUMN) > self._most, 0, -1)
