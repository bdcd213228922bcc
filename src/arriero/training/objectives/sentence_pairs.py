"""Pairs of segments: does the second follow the first (BERT), are they in their order (ALBERT)?

Rows are ``[CLS] A [SEP] B [SEP]``. A chunk of whole sentences of one document, as many as fit, is cut at the end of a
sentence. Next sentence (Devlin et al., arXiv 1810.04805, section 3.1): in half of the rows B comes from another
document. Sentence order (Lan et al., arXiv 1909.11942, section 3.1): in half of them A and B change places.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from arriero.errors import ArrieroError
from arriero.training.objectives.draws import Draws
from arriero.training.objectives.masked_rows import DocumentChunks, Documents, Row, Sentences

Task = Literal["next_sentence", "sentence_order"]
_TRIES = 8
"""Places in other documents that are looked at for one with enough text after it."""


class SentencePairs(DocumentChunks):
    """Rows of two segments, with the label 0 (follows, in order) or 1 (from elsewhere, changed places).

    A segment from elsewhere ends at the end of a sentence and is about as long as the room that the true one had, so
    that neither its end nor the row's length tells.

    Args:
        length: most tokens of a row.

    Raises:
        ArrieroError: next sentence with a single document.
    """

    paired = True

    def __init__(
        self,
        documents: Documents,
        length: int,
        cls_id: int,
        sep_id: int,
        sentences: Sentences,
        task: Task,
    ) -> None:
        super().__init__(documents, length, cls_id, sep_id, sentences, room=length - 3, least=2)
        self._task = task
        if task == "next_sentence" and len(np.unique(self.document_of)) == 1:
            raise ArrieroError(
                "next_sentence draws segments from other documents, but the text is a single one; take another "
                "objective, or split the text into documents"
            )

    @property
    def longest(self) -> int:
        return self.most if self._task == "next_sentence" else super().longest

    def row(self, index: int, draws: Draws) -> Row:
        text = self.chunk(index)
        cut = self._cut(text, draws)
        first, second = text[:cut], text[cut:]
        other = draws.below(2)
        if other and self._task == "sentence_order":
            first, second = second, first
        elif other:
            document = int(self.document_of[index])
            most = self.room - cut
            wanted = len(second) if int(self.stops[index]) == self._end(document) else most
            second = self._from_elsewhere(document, wanted, most, draws)
        ids = np.concatenate([[self.cls_id], first, [self.sep_id], second, [self.sep_id]])
        types = np.arange(len(ids)) >= len(first) + 2
        return Row(ids, types.astype(np.int64), other)

    def _cut(self, text: np.ndarray, draws: Draws) -> int:
        """Where B begins: at a sentence's end, or anywhere where there is none inside."""
        borders = self.sentences.borders(text)
        at = draws.below(len(borders) or len(text) - 1)
        return int(borders[at]) if len(borders) else at + 1

    def _end(self, document: int) -> int:
        """Where a document's text ends."""
        return int(self.documents.documents_starts[document + 1]) - 1

    def _from_elsewhere(self, document: int, wanted: int, most: int, draws: Draws) -> np.ndarray:
        """About ``wanted`` tokens of another document, at most ``most``, from a place where a segment B could begin to
        the end of a sentence."""
        low, high = (int(np.searchsorted(self.document_of, document, side)) for side in ("left", "right"))
        start = end = 0
        for _ in range(_TRIES):
            index = draws.below(len(self) - (high - low))
            index += high - low if index >= low else 0
            start = int(self.starts[index]) + self._cut(self.chunk(index), draws)
            end = self._end(int(self.document_of[index]))
            if end - start >= wanted:
                break
        found = self.documents.tokens(start, min(end, start + most))
        borders = self.sentences.borders(np.append(found, found[-1:]))  # its own end counts too
        if start + len(found) == end:
            borders = np.append(borders, len(found))
        return found[: borders[np.abs(borders - wanted).argmin()]] if len(borders) else found[:wanted]
