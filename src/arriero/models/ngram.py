"""Interpolated modified Kneser-Ney n-gram model over token ids: the baseline that a small corpus deserves.

Chen and Goodman (1998), "An Empirical Study of Smoothing Techniques for Language Modeling", section 3:
three discounts per order for counts 1, 2 and 3 or more, all orders interpolated, the unigram interpolated
with the uniform distribution, so that every token has a probability above 0 after every context.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from arriero.errors import ArrieroError
from arriero.models.ngram_counts import Counts, Ints, Stream, count_ngrams, find_rows

MAX_ORDER = 7
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Used for an order whose counts of counts give no discounts, as KenLM does with --discount_fallback."""
_CONFIG, _TABLES = "ngram.json", "ngram.safetensors"
_FORMAT = "arriero.ngram/1"

Floats = NDArray[np.float64]


def discounts(counts: NDArray[np.integer]) -> tuple[float, float, float]:
    """(D1, D2, D3+) of one order from its counts (zeros are ignored), Chen and Goodman's equation 26.

    ``Y = n1 / (n1 + 2 n2)``, ``Dk = k - (k + 1) Y n_{k+1} / n_k`` with ``n_k`` the number of n-grams that
    have count k. Where a Dk cannot be had or leaves (0, k], the order gets :data:`FALLBACK_DISCOUNTS`.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == k)) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    if any(not 0 < d <= k for k, d in enumerate(found, start=1)):
        return FALLBACK_DISCOUNTS
    return found


@dataclass(frozen=True)
class _Order:
    """One order, ready to be looked up: ``P_n(w|h) = mass[hw] + backoff[h] * P_{n-1}(w|h')``."""

    keys: Ints
    mass: Floats
    backoff: Floats


def _interpolate(counts: Ints, contexts: Ints, n_contexts: int) -> tuple[Floats, Floats]:
    """Discounted probability of every n-gram [R] and the weight left to the order below per context [C].

    ``contexts`` [R] is the row of every n-gram's context; a context without continuations leaves weight 1.
    """
    by_count = np.asarray((0.0, *discounts(counts)))
    taken = by_count[np.minimum(counts, 3)]
    totals = np.bincount(contexts, weights=counts, minlength=n_contexts)
    left = np.bincount(contexts, weights=taken, minlength=n_contexts)
    seen = totals > 0
    backoff = np.ones(n_contexts)
    np.divide(left, totals, out=backoff, where=seen)
    return (counts - taken) / totals[contexts], backoff


class NGram:
    """A fitted model. Implements ``models.protocol.LanguageModel``."""

    def __init__(self, counts: Counts) -> None:
        """Work out probabilities and back-off weights from adjusted counts."""
        self.order, self.vocab_size = counts.order, counts.vocab_size
        self._counts = counts
        v = self.vocab_size
        if counts.unigrams.any():
            # all unigrams share one (empty) context
            mass, backoff = _interpolate(counts.unigrams, np.zeros(v, np.int64), 1)
            self._unigram: Floats = mass + backoff[0] / v
        else:
            self._unigram = np.full(v, 1.0 / v)
        self._orders: list[_Order] = []
        size = v
        for n in range(2, self.order + 1):
            keys = counts.keys[n]
            mass, backoff = _interpolate(counts.counts[n], keys // v, size)
            self._orders.append(_Order(keys, mass, backoff))
            size = keys.size

    @classmethod
    def fit(
        cls, documents: Iterable[Sequence[int] | NDArray[np.integer]], order: int, vocab_size: int
    ) -> NGram:
        """Fit on documents (arrays of token ids). An n-gram never reaches over two documents.

        Raises:
            ArrieroError: the order is not 1 to 7, or an id lies outside the vocabulary.
        """
        if not 1 <= order <= MAX_ORDER:
            raise ArrieroError(f"an n-gram model of order {order} cannot be fitted; 1 to {MAX_ORDER} can")
        return cls(count_ngrams(Stream.of(documents, vocab_size), order, vocab_size))

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[Floats]:
        """Natural-log p(x_t | x_<t) of every token but the first of each sequence: ``len(ids) - 1`` float64 each.

        Raises:
            ArrieroError: an id lies outside the vocabulary.
        """
        stream = Stream.of(sequences, self.vocab_size)
        logs = np.log(self._probabilities(stream))
        ends = iter(np.append(stream.starts[1:], stream.ids.size))
        starts = iter(stream.starts)
        empty = np.zeros(0)
        return [logs[next(starts) + 1 : next(ends)] if len(ids) else empty for ids in sequences]

    def _probabilities(self, stream: Stream) -> Floats:
        """p(x_t | x_<t) at every position of the stream [N]; at a sequence's first token, its unigram."""
        p = self._unigram[stream.ids]
        rows = stream.ids
        for level in self._orders:
            context = np.empty_like(rows)
            context[:1], context[1:] = -1, rows[:-1]
            context[stream.starts] = -1
            rows = find_rows(level.keys, stream.keys(rows, self.vocab_size))
            # a context that was never seen leaves the lower order as it is
            p = np.where(context >= 0, p * level.backoff[context] if level.backoff.size else p, p)
            if level.keys.size:
                p += np.where(rows >= 0, level.mass[rows], 0.0)
        return p

    def distribution(self, context: Sequence[int]) -> Floats:
        """p(w | context) of every token of the vocabulary [V]; only the last ``order - 1`` ids count."""
        p = self._unigram.copy()
        for n, level in enumerate(self._orders, start=2):
            if len(context) < n - 1:
                break
            row = self._row_of(list(context)[len(context) - (n - 1) :])
            if row < 0:
                break  # longer contexts contain this one, so they were never seen either
            first, last = np.searchsorted(level.keys, (row * self.vocab_size, (row + 1) * self.vocab_size))
            p *= level.backoff[row]
            p[level.keys[first:last] - row * self.vocab_size] += level.mass[first:last]
        return p

    def _row_of(self, gram: list[int]) -> int:
        """Row of an n-gram in the table of its order, -1 when it was never seen."""
        row = gram[0]
        for token, level in zip(gram[1:], self._orders, strict=False):
            row = int(find_rows(level.keys, np.asarray([row * self.vocab_size + token]))[0])
            if row < 0:
                break
        return row

    def parameter_counts(self) -> dict[str, int]:
        """Stored n-grams by order."""
        seen = {"1-gram": int(np.count_nonzero(self._counts.unigrams))}
        return seen | {f"{n}-gram": int(level.keys.size) for n, level in enumerate(self._orders, start=2)}

    def save(self, folder: Path) -> None:
        """Write ``ngram.json`` and ``ngram.safetensors`` (keys and counts; probabilities follow from them)."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"counts.1": self._counts.unigrams}
        for n in range(2, self.order + 1):
            tensors[f"keys.{n}"], tensors[f"counts.{n}"] = self._counts.keys[n], self._counts.counts[n]
        save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, folder / _TABLES)
        head = {"format": _FORMAT, "order": self.order, "vocab_size": self.vocab_size}
        (folder / _CONFIG).write_text(json.dumps(head, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> NGram:
        """Read what :meth:`save` wrote.

        Raises:
            ArrieroError: the folder holds no n-gram model, or a damaged one.
        """
        try:
            head = json.loads((folder / _CONFIG).read_text())
            tensors = load_file(folder / _TABLES)
            if head["format"] != _FORMAT:
                raise ValueError(f"format {head['format']!r} is not {_FORMAT!r}")
            above = range(2, int(head["order"]) + 1)
            keys = {n: tensors[f"keys.{n}"] for n in above}
            counts = {n: tensors[f"counts.{n}"] for n in above}
            return cls(Counts(int(head["order"]), int(head["vocab_size"]), tensors["counts.1"], keys, counts))
        except FileNotFoundError as error:
            raise ArrieroError(f"{folder} holds no n-gram model: {error.filename} is missing") from None
        except Exception as error:  # safetensors raises its own class, JSON and numpy theirs
            raise ArrieroError(f"the n-gram model in {folder} cannot be read: {error}") from None
