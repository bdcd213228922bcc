"""Vectors of documents for semantic de-duplication: hashed TF-IDF by default, a sentence encoder where one is given.

Vectors are kept in 8 bits a number. Sums of their products are whole numbers that float32 holds exactly (up to 1,024
dimensions; float64 beyond), so results do not depend on how a library orders a sum, on threads or on machines.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.minhash import scramble
from arriero.data.dedup.words import words_of

ENCODER = "arriero.inference.encoder_engine"
"""Sentence encoders run in the inference room, which lies below this one in the house; it is found by name."""
BUCKETS = 1 << 18
"""Hashed words that TF-IDF tells apart."""
_SIGNS = 4
"""Dimensions that a word adds to, each with a sign of its own (a sparse random projection)."""
_BATCH = 64


class Embedder(Protocol):
    """Texts to vectors."""

    def embed(self, texts: Iterable[str]) -> Iterator[NDArray[np.float64]]:
        """One vector a text, in order; zeros for a text without words."""


def term_counts(text: str, max_words: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(buckets, counts) of the first words of a text in lower case."""
    hashes = words_of(text.lower()).hash[:max_words]
    buckets = (hashes & np.uint64(BUCKETS - 1)).astype(np.int64)
    return np.unique(buckets, return_counts=True)


class TfIdf:
    """Weights (1 + ln tf) (1 + ln (1 + N) / (1 + df)), projected: words add to a few dimensions with fixed signs."""

    def __init__(
        self, document_counts: NDArray[np.int64], documents: int, dimensions: int, max_words: int
    ) -> None:
        self._idf = 1 + np.log((1 + documents) / (1 + document_counts))
        self._dimensions, self._max_words = dimensions, max_words

    def embed(self, texts: Iterable[str]) -> Iterator[NDArray[np.float64]]:
        for text in texts:
            buckets, counts = term_counts(text, self._max_words)
            weights = (1 + np.log(counts)) * self._idf[buckets]
            salts = np.arange(_SIGNS, dtype=np.uint64) + np.uint64(1 << 45)
            mixed = scramble(
                np.add.outer(buckets.astype(np.uint64) * np.uint64(_SIGNS), salts).astype(np.uint64)
            )
            places = (mixed % np.uint64(self._dimensions)).astype(np.int64)
            signs = 1.0 - 2.0 * (mixed >> np.uint64(63)).astype(np.float64)
            yield np.bincount(
                places.ravel(), (signs * weights[:, None]).ravel(), minlength=self._dimensions
            ).astype(np.float64)


class EncoderModel:
    """A sentence encoder in a Hugging Face folder, through the project's own engine, on one thread: batches and with
    them the rounding are the same for any number of workers."""

    def __init__(self, folder: Path, max_words: int) -> None:
        self._engine = load_encoder(folder)
        self._max_words = max_words

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        return int(self._engine.dimensions)

    def embed(self, texts: Iterable[str]) -> Iterator[NDArray[np.float64]]:
        batch: list[str] = []
        for text in texts:
            batch.append(" ".join(text.split()[: self._max_words]))
            if len(batch) == _BATCH:
                yield from self._vectors(batch)
                batch = []
        yield from self._vectors(batch)

    def _vectors(self, batch: list[str]) -> Iterator[NDArray[np.float64]]:
        some = [text for text in batch if text]
        found = iter(self._engine.embed(some, truncate=True)[0] if some else [])
        for text in batch:
            yield np.asarray(next(found), np.float64) if text else np.zeros(self.dimensions)


@lru_cache(maxsize=1)
def load_encoder(folder: Path) -> Any:
    """The engine for a folder, loaded once in a process.

    Raises:
        ArrieroError: there is no encoder in the folder.
    """
    importlib.import_module("torch").set_num_threads(1)
    return importlib.import_module(ENCODER).EncoderEngine.load(folder)


def quantise(vectors: NDArray[np.floating[Any]]) -> NDArray[np.int8]:
    """int8[n, d]: each vector scaled so that its greatest number is 127; zeros stay zeros."""
    greatest = np.abs(vectors).max(axis=1, keepdims=True) if vectors.size else np.zeros((len(vectors), 1))
    scaled = vectors * (127.0 / np.where(greatest > 0, greatest, 1))
    return np.rint(scaled).astype(np.int8)


def products(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float64]:
    """float64[n, m]: exact inner products of int8[n, d] and int8[m, d]."""
    exact: Any = np.float32 if a.shape[1] <= 1024 else np.float64
    return (a.astype(exact) @ b.astype(exact).T).astype(np.float64)


def lengths(vectors: NDArray[np.int8]) -> NDArray[np.float64]:
    """Euclidean lengths, 1 for zeros (whose products are 0)."""
    squares = (vectors.astype(np.int64) ** 2).sum(1)
    return np.sqrt(np.maximum(squares, 1).astype(np.float64))


def cosines(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.float64]:
    """float64[n, m]: cosines; 0 where a vector is all zeros."""
    return products(a, b) / (lengths(a)[:, None] * lengths(b))
