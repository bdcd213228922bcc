"""Counting n-grams: sorted integer keys in place of dictionaries, one table per order, in bounded memory.

The n-gram ``w_1 … w_n`` has the key ``i * vocab_size + w_n``, where ``i`` is the row of its prefix
``w_1 … w_{n-1}`` in the table one order below (order 1: the token id itself). A table is the sorted
array of its distinct keys, so the continuations of one context lie side by side.

An order is counted in three steps: the text block by block to sorted runs, the runs merged to the table, and the row
of every position of the text written down for the order above. A text of one block needs no merging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError
from arriero.models.ngram_columns import Column, Columns, Workspace
from arriero.models.ngram_merge import merge_runs

Ints = NDArray[np.int64]
Documents = Iterable[Sequence[int] | NDArray[np.integer]]
_BITS_OF_A_KEY = 62
_SPOOL_TOKENS = 1 << 20
"""Tokens of documents that are joined before they are written: one write a document would be slow."""


def checked_ids(arrays: Sequence[Sequence[int] | NDArray[np.integer]], vocab_size: int) -> Ints:
    """Documents in a row.

    Raises:
        ArrieroError: an id lies outside the vocabulary.
    """
    ids = np.concatenate([np.zeros(0, np.int64), *(np.asarray(array, np.int64) for array in arrays)])
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        bad = int(ids[(ids < 0) | (ids >= vocab_size)][0])
        raise ArrieroError(f"token id {bad} lies outside the vocabulary of {vocab_size}")
    return ids


@dataclass(frozen=True)
class Counts:
    """What a text holds of every order.

    ``unigrams`` and ``plain_unigrams`` int64 [V]. ``levels[n]`` for n = 2 … order has columns of one record an n-gram:
    ``keys`` sorted, ``plain`` its occurrences, ``suffix`` the row of ``w_2 … w_n`` one order below, and ``adjusted``.

    At the highest order ``adjusted`` are the plain counts. Below it (``unigrams`` too) they are Kneser-Ney's
    continuation counts: the number of distinct tokens that come before the n-gram; an occurrence at the start of a
    document has nothing before it and counts as itself.
    """

    order: int
    vocab_size: int
    tokens: int
    unigrams: Ints
    plain_unigrams: Ints
    levels: dict[int, Columns]


def count_ngrams(
    documents: Documents, order: int, vocab_size: int, workspace: Workspace | None = None
) -> Counts:
    """Counts of all orders. The first token of a document is a context and never itself predicted.

    Raises:
        ArrieroError: the corpus is so large that keys would not fit 64 bits, or an id lies outside the vocabulary.
    """
    work = workspace or Workspace()
    text = _spool(documents, vocab_size, work)
    tokens = len(text["ids"])
    if max(tokens, vocab_size).bit_length() + int(vocab_size).bit_length() > _BITS_OF_A_KEY:
        raise ArrieroError(f"{tokens:,} tokens over a vocabulary of {vocab_size:,} are too many to count")
    plain = _plain_unigrams(text, vocab_size, work)
    unigrams = plain
    levels: dict[int, Columns] = {}
    rows, size = text["ids"], vocab_size
    for n in range(2, order + 1):
        blocks = list(_blocks(n, text, rows, vocab_size, work))
        table = _merged(n, blocks, work)
        below = _adjusted(n, table, blocks, size, work)
        if n == 2:
            unigrams = below.read()
        else:
            levels[n - 1]["adjusted"] = below
        levels[n] = {**table, "adjusted": table["plain"]}
        next_rows = _rows(n, blocks, work) if n < order else None
        for column in (column for block in blocks if len(blocks) > 1 for column in block.values()):
            column.clear()
        if next_rows is not None:
            if rows is not text["ids"]:
                rows.clear()
            rows, size = next_rows, len(table["keys"])
    return Counts(order, vocab_size, tokens, unigrams, plain, levels)


def _spool(documents: Documents, vocab_size: int, work: Workspace) -> Columns:
    """The ids of the text, and which of them are the first of their document."""

    def fill(columns: Columns) -> None:
        waiting: list[NDArray[np.integer]] = []
        most = min(work.records or _SPOOL_TOKENS, _SPOOL_TOKENS)

        def flush() -> None:
            ids = checked_ids(waiting, vocab_size)
            lengths = np.asarray([array.size for array in waiting], np.int64)
            first = np.zeros(ids.size, np.bool_)
            first[np.cumsum(lengths) - lengths] = True
            columns["ids"].append(ids)
            columns["first"].append(first)
            waiting.clear()
            work.tell("read", len(columns["ids"]))

        size = 0
        for document in documents:
            array = np.asarray(document)
            if array.size:
                waiting.append(array)
                size += array.size
            if size >= most:
                flush()
                size = 0
        if waiting:
            flush()

    return work.step("text", {"ids": np.uint32, "first": np.bool_}, fill)


def _plain_unigrams(text: Columns, vocab_size: int, work: Workspace) -> Ints:
    counts = np.zeros(vocab_size, np.int64)
    for start, stop in work.pieces(len(text["ids"]), "count 1-grams"):
        ids = text["ids"].read(start, stop)[~text["first"].read(start, stop)]
        counts += np.bincount(ids, minlength=vocab_size)
    return counts


# ---------------------------------------------------------------- one order


def _blocks(n: int, text: Columns, rows: Column, vocab_size: int, work: Workspace) -> Iterator[Columns]:
    """Sorted runs of the n-grams of each block of the text.

    ``keys``, ``plain``, ``suffix``: one record a distinct n-gram. ``place``: for every position the record of the n-gram
    that ends there, -1 where it would reach over its document's start. ``begins``: rows of the (n-1)-grams that begin
    their document.
    """
    dtypes: dict[str, type[np.generic]] = {
        "keys": np.int64, "plain": np.int64, "suffix": np.int64, "place": np.int32, "begins": np.int64,
    }  # fmt: skip
    for start, stop in work.pieces(len(text["ids"]), f"sort {n}-grams"):

        def fill(columns: Columns, start: int = start, stop: int = stop) -> None:
            ids = text["ids"].read(start, stop).astype(np.int64)
            ends = rows.read(max(start - 1, 0), stop).astype(np.int64)
            if start == 0:
                ends = np.concatenate([np.full(1, -1, np.int64), ends])
            prefix, suffix = ends[:-1], ends[1:]
            inside = (prefix >= 0) & ~text["first"].read(start, stop)
            at = np.flatnonzero(inside)
            keys = prefix[at] * vocab_size + ids[at]
            order = np.argsort(keys)
            keys = keys[order]
            first = np.ones(keys.size, bool)
            np.not_equal(keys[1:], keys[:-1], out=first[1:])
            begin = np.flatnonzero(first)
            columns["keys"].append(keys[begin])
            columns["plain"].append(np.diff(begin, append=keys.size))
            columns["suffix"].append(suffix[at[order[begin]]])
            place = np.full(ids.size, -1, np.int32)
            place[at[order]] = np.cumsum(first) - 1
            columns["place"].append(place)
            columns["begins"].append(suffix[~inside & (suffix >= 0)])

        yield work.step(f"{n}.{start}", dtypes, fill)


def _merged(n: int, blocks: list[Columns], work: Workspace) -> Columns:
    """The table of an order. Each block gets a column ``rows``: the table's row of each of its records."""
    if len(blocks) == 1:
        return {key: blocks[0][key] for key in ("keys", "plain", "suffix")}
    names = {f"rows{number}": np.int64 for number in range(len(blocks))}
    dtypes: dict[str, type[np.generic]] = {"keys": np.int64, "plain": np.int64, "suffix": np.int64, **names}
    table = work.step(f"{n}.table", dtypes, lambda columns: merge_runs(blocks, columns, n, work))
    for number, block in enumerate(blocks):
        block["rows"] = table.pop(f"rows{number}")
    return table


def _rows(n: int, blocks: list[Columns], work: Workspace) -> Column:
    """The row of the n-gram that ends at each position of the text, -1 where there is none."""
    if len(blocks) == 1:
        return blocks[0]["place"]

    def fill(columns: Columns) -> None:
        for block in blocks:
            place = block["place"].read()
            # the row behind the last is what a place of -1 finds
            rows = np.append(block["rows"].read(), -1)
            columns["rows"].append(rows[place])

    return work.step(f"{n}.rows", {"rows": np.int64}, fill)["rows"]


def _adjusted(n: int, table: Columns, blocks: list[Columns], size: int, work: Workspace) -> Column:
    """Continuation counts of the ``size`` (n-1)-grams: every distinct n-gram is one more token seen before its suffix."""

    def fill(columns: Columns) -> None:
        sources = [table["suffix"]]
        if n > 2:  # a document's first token is not predicted, so it has no count of its own
            sources += [block["begins"] for block in blocks]
        for low, high in work.windows(size):
            counts = np.zeros(high - low, np.int64)
            for source in sources:
                for start, stop in work.pieces(len(source), f"adjust {n - 1}-grams"):
                    rows = source.read(start, stop)
                    rows = rows[(rows >= low) & (rows < high)] - low
                    counts += np.bincount(rows, minlength=high - low)
            columns["adjusted"].append(counts)

    return work.step(f"{n - 1}.adjusted", {"adjusted": np.int64}, fill)["adjusted"]
