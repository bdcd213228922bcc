"""The rows that masked models read: windows of the text, or chunks of single documents.

A row is ``[CLS] tokens [SEP]``. The shards hold each document between the same two tokens, under whatever name the
tokenizer has them (``<s>`` and ``</s>``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from arriero.training.objectives.draws import Draws


class Documents(Protocol):
    """Documents' tokens one after the other, each with its first and last special token (data.shards.TokenShards)."""

    documents_starts: np.ndarray

    def tokens(self, start: int, stop: int) -> np.ndarray: ...


class PlannedDocuments:
    """Documents that are known by their number and tokens alone, all of one length and full of zeros."""

    def __init__(self, documents: int, tokens: int) -> None:
        self.documents_starts = np.linspace(0, tokens, documents + 1).astype(np.int64)

    def tokens(self, start: int, stop: int) -> np.ndarray:
        return np.zeros(stop - start, dtype=np.int64)


@dataclass(frozen=True)
class Row:
    """One row of a masked model.

    Attributes:
        ids: int64 [T], special tokens included.
        types: int64 [T], which of two segments a token belongs to; None where there is but one.
        pair: the label of the two segments; None where there is but one.
    """

    ids: np.ndarray
    types: np.ndarray | None = None
    pair: int | None = None


class Rows(Protocol):
    """A fixed number of rows; each may be drawn anew in every epoch."""

    paired: bool

    def __len__(self) -> int: ...

    @property
    def longest(self) -> int:
        """Most tokens that any row can have."""
        ...

    def length(self, index: int) -> int:
        """Tokens of the row; of one that is drawn anew, about."""
        ...

    def row(self, index: int, draws: Draws) -> Row: ...

    def mean_length(self) -> float: ...


class FullWindows:
    """Windows of all the text, across documents, whose last token separates them (RoBERTa's FULL-SENTENCES,
    Liu et al., arXiv 1907.11692, section 4.2; windows begin where the one before ended, in the middle of a sentence).

    Args:
        length: most tokens of a row; the last row may be shorter.
    """

    paired = False

    def __init__(self, documents: Documents, length: int, cls_id: int, sep_id: int) -> None:
        self._documents, self._cls, self._sep = documents, cls_id, sep_id
        self._room = length - 2
        starts = documents.documents_starts
        self._starts = starts - np.arange(len(starts))  # in the text without the documents' first tokens
        self._tokens = int(self._starts[-1])

    def __len__(self) -> int:
        return -(-self._tokens // self._room)

    @property
    def longest(self) -> int:
        return min(self._room, self._tokens) + 2

    def length(self, index: int) -> int:
        return min(self._room, self._tokens - index * self._room) + 2

    def mean_length(self) -> float:
        return self._tokens / max(1, len(self)) + 2

    def row(self, index: int, draws: Draws) -> Row:
        places = np.arange(index * self._room, min(self._tokens, (index + 1) * self._room))
        places += np.searchsorted(
            self._starts, places, side="right"
        )  # one first token for each document so far
        first = int(places[0])
        text = self._documents.tokens(first, int(places[-1]) + 1)[places - first]
        return Row(np.concatenate([[self._cls], text, [self._sep]]))


@dataclass(frozen=True)
class Sentences:
    """Where sentences end, told from the tokens: bool [V] each.

    Attributes:
        ends: the token ends in a full stop, question or exclamation mark.
        closes: it is a quotation mark or bracket, which belongs to the sentence whose end is right before it.
    """

    ends: np.ndarray
    closes: np.ndarray

    def borders(self, tokens: np.ndarray) -> np.ndarray:
        """int64 [n], rising: places in ``tokens`` before which a sentence ended; the end of the tokens is none."""
        ended = self.ends[tokens]
        closed = self.closes[tokens]
        after = np.append(closed[1:], False)
        last = (ended & ~after) | (closed & np.append(False, ended[:-1]))
        return np.flatnonzero(last[:-1]) + 1


class DocumentChunks:
    """Documents cut into chunks of whole sentences, as many as fit (RoBERTa's DOC-SENTENCES).

    A sentence that is too long by itself is cut where the room ends.

    Args:
        length: most tokens of a row.
        room: most tokens of a chunk.
        least: chunks of fewer tokens are left out.
    """

    paired = False

    def __init__(
        self,
        documents: Documents,
        length: int,
        cls_id: int,
        sep_id: int,
        sentences: Sentences,
        *,
        room: int | None = None,
        least: int = 1,
    ) -> None:
        self.documents, self.cls_id, self.sep_id, self.sentences = documents, cls_id, sep_id, sentences
        self.most = length
        self.room = length - 2 if room is None else room
        starts = documents.documents_starts
        found = [
            (number, first, stop)
            for number in range(len(starts) - 1)
            for first, stop in self._chunks(int(starts[number]) + 1, int(starts[number + 1]) - 1)
            if stop - first >= least
        ]
        table = np.array(found, dtype=np.int64).reshape(-1, 3)
        self.document_of, self.starts, self.stops = table.T

    def _chunks(self, first: int, end: int) -> list[tuple[int, int]]:
        if end - first <= self.room:
            return [(first, end)] if end > first else []
        borders = first + self.sentences.borders(self.documents.tokens(first, end))
        found = []
        while first < end:
            stop = min(end, first + self.room)
            if stop < end:
                fitting = borders[np.searchsorted(borders, stop, side="right") - 1] if len(borders) else 0
                stop = int(fitting) if first < fitting <= stop else stop
            found.append((first, stop))
            first = stop
        return found

    def __len__(self) -> int:
        return len(self.starts)

    def chunk(self, index: int) -> np.ndarray:
        """int64 [n], without special tokens."""
        return self.documents.tokens(int(self.starts[index]), int(self.stops[index]))

    @property
    def longest(self) -> int:
        return int((self.stops - self.starts).max(initial=0)) + self.most - self.room

    def length(self, index: int) -> int:
        return int(self.stops[index] - self.starts[index]) + self.most - self.room

    def mean_length(self) -> float:
        return float((self.stops - self.starts).mean() if len(self) else 0.0) + self.most - self.room

    def row(self, index: int, draws: Draws) -> Row:
        return Row(np.concatenate([[self.cls_id], self.chunk(index), [self.sep_id]]))
