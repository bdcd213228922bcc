"""Counting n-grams: sorted integer keys in place of dictionaries, one table per order.

The n-gram ``w_1 … w_n`` has the key ``i * vocab_size + w_n``, where ``i`` is the row of its prefix
``w_1 … w_{n-1}`` in the table one order below (order 1: the token id itself). A table is the sorted
array of its distinct keys, so finding a batch of n-grams is a walk up the orders with binary searches,
and the continuations of one context lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError

Ints = NDArray[np.int64]
_BITS_OF_A_KEY = 62


@dataclass(frozen=True)
class Stream:
    """Several sequences in one array. ``starts`` [S] are the positions of their first tokens."""

    ids: Ints
    starts: Ints

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int] | NDArray[np.integer]], vocab_size: int) -> Stream:
        """Put sequences in a row.

        Raises:
            ArrieroError: an id lies outside the vocabulary.
        """
        arrays = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
        arrays = [array for array in arrays if array.size]
        ids = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
        if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
            bad = int(ids[(ids < 0) | (ids >= vocab_size)][0])
            raise ArrieroError(f"token id {bad} lies outside the vocabulary of {vocab_size}")
        lengths = np.asarray([array.size for array in arrays], dtype=np.int64)
        return cls(ids, np.cumsum(lengths) - lengths)

    def keys(self, rows: Ints, vocab_size: int) -> Ints:
        """Keys of the n-grams that end at each position, from the rows of the (n-1)-grams that end there.

        -1 where the n-gram would reach over the start of its sequence or its prefix is in no table.
        """
        prefix = np.empty_like(rows)
        prefix[:1] = -1
        prefix[1:] = rows[:-1]
        prefix[self.starts] = -1
        return np.where(prefix >= 0, prefix * vocab_size + self.ids, -1)


def find_rows(table: Ints, keys: Ints) -> Ints:
    """Row of each key in the sorted table, -1 for those that are not in it."""
    if not table.size:
        return np.full(keys.shape, -1, np.int64)
    rows = np.searchsorted(table, keys)
    rows[rows == table.size] = 0
    return np.where(table[rows] == keys, rows, -1)


@dataclass(frozen=True)
class Counts:
    """``keys[n]`` [R_n] int64 sorted and ``counts[n]`` [R_n] int64, for n = 2 … order; ``unigrams`` [V] int64.

    The highest order holds plain counts. Below it stand Kneser-Ney's continuation counts: the number of
    distinct tokens that come before the n-gram; an occurrence at the start of a document has nothing
    before it and counts as itself.
    """

    order: int
    vocab_size: int
    unigrams: Ints
    keys: dict[int, Ints]
    counts: dict[int, Ints]


def _distinct(keys: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Sorted distinct keys >= 0, their counts, one position of each, and the row of every position (-1: no key)."""
    at = np.flatnonzero(keys >= 0)
    order = np.argsort(keys[at])
    ordered = keys[at][order]
    first = np.ones(ordered.size, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    begins = np.flatnonzero(first)
    rows = np.full(keys.size, -1, np.int64)
    rows[at[order]] = np.cumsum(first) - 1
    return ordered[begins], np.diff(begins, append=ordered.size), at[order[begins]], rows


def count_ngrams(stream: Stream, order: int, vocab_size: int) -> Counts:
    """Adjusted counts of all orders. The first token of a document is a context and never itself predicted.

    Raises:
        ArrieroError: the corpus is so large that keys would not fit 64 bits.
    """
    if int(max(stream.ids.size, vocab_size)).bit_length() + int(vocab_size).bit_length() > _BITS_OF_A_KEY:
        raise ArrieroError(
            f"{stream.ids.size:,} tokens over a vocabulary of {vocab_size:,} are too many to count"
        )
    inside = np.ones(stream.ids.size, bool)
    inside[stream.starts] = False
    keys: dict[int, Ints] = {}
    counts: dict[int, Ints] = {}
    unigrams = np.bincount(stream.ids[inside], minlength=vocab_size)
    rows, size = stream.ids, vocab_size
    for n in range(2, order + 1):
        table, plain, places, above = _distinct(stream.keys(rows, vocab_size))
        # every distinct n-gram is one more token seen before the (n-1)-gram that it ends in
        adjusted = np.bincount(rows[places], minlength=size)
        if n == 2:
            unigrams = adjusted
        else:
            first = stream.starts + (n - 2)  # where the (n-1)-gram that begins its sequence ends
            first = first[first < np.append(stream.starts[1:], stream.ids.size)]
            counts[n - 1] = adjusted + np.bincount(rows[first], minlength=size)
        keys[n], counts[n] = table, plain
        rows, size = above, table.size
    return Counts(order, vocab_size, unigrams.astype(np.int64), keys, counts)
