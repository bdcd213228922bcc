"""From counts to the tables of a back-off model, order by order and piece by piece.

Pruned n-grams give all of their count to the order below, as in KenLM's ``lmplz --prune``: the back-off weight of their
context grows by it and probabilities still sum to 1 (Heafield et al. 2013, "Scalable Modified Kneser-Ney Language
Model Estimation").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError
from arriero.models.ngram_columns import Column, Columns, Workspace
from arriero.models.ngram_counts import Counts
from arriero.models.ngram_smoothing import FALLBACK_DISCOUNTS, Floats, Smoothing

Ints = NDArray[np.int64]


def pruning_of(prune: Sequence[int], order: int) -> list[int]:
    """Cut-off of every order 1 … order: n-grams that occur at most so often are left out; the last number is repeated.

    Raises:
        ArrieroError: tokens would be cut off, or a longer n-gram kept whose context is cut off.
    """
    cuts = list(prune) or [0]
    if len(cuts) > order:
        raise ArrieroError(f"prune {cuts} has more numbers than the model has orders ({order})")
    cuts += [cuts[-1]] * (order - len(cuts)) if len(cuts) > 1 or not cuts[0] else []
    if cuts[0] != 0:
        raise ArrieroError(f"prune {cuts} should begin with 0: order 1 is the vocabulary and is not pruned")
    if cuts != sorted(cuts):
        raise ArrieroError(f"prune {cuts} should not decrease: a longer n-gram needs the shorter ones in it")
    return cuts


@dataclass(frozen=True)
class _Order:
    """Records of one order as estimation reads them; rows are those of the counts, before pruning."""

    keys: Column
    plain: Column
    adjusted: Column
    suffix: Column | None
    cut: int
    discounts: tuple[float, float, float]


def estimate(
    counts: Counts, smoothing: Smoothing, weight: float, cuts: Sequence[int], work: Workspace
) -> tuple[dict[str, Column], dict[str, Any]]:
    """The model's arrays by the names of ``ngram_tables.columns_of``, and what is worth telling about them."""
    v = counts.vocab_size
    adjusted = counts.unigrams if smoothing.continuation else counts.plain_unigrams
    found, unigrams = _unigrams(adjusted, smoothing, weight, v)
    about: dict[str, Any] = {"discounts": [unigrams]}
    model: dict[str, Column] = {"p.1": Column.of(found)}
    below, rows = Column.of(found), Column.of(np.arange(v))
    for n in range(2, counts.order + 1):
        level = _order(counts, n, smoothing, cuts[n - 1], work)
        about["discounts"].append(level.discounts)
        sums = _context_sums(n, level, len(below), v, smoothing, work)
        weights = _Weights(sums, smoothing, weight, v)
        made = _probabilities(n, level, weights, below, rows, v, work)
        kept = _kept_backoffs(n - 1, weights, rows, work)
        model |= {f"backoff.{n - 1}": kept, f"keys.{n}": made["keys"], f"p.{n}": made["p"]}
        for used in (below, rows, *sums.values()):
            used.clear()
        below, rows = made["all"], made["rows"]
    if smoothing.discounts([0] * 4) == FALLBACK_DISCOUNTS:
        about["fallback_orders"] = [n for n, d in enumerate(about["discounts"], 1) if d == FALLBACK_DISCOUNTS]
    return model, about


def _taken(counts: NDArray[Any], discounts: tuple[float, float, float]) -> Floats:
    table = np.asarray((0.0, *discounts))
    return np.asarray(table[np.minimum(counts, 3)])


def _counts_of_counts(pieces: Iterator[NDArray[Any]]) -> list[int]:
    found = np.zeros(6, np.int64)
    for piece in pieces:
        found += np.bincount(np.minimum(piece, 5), minlength=6)
    return [int(n) for n in found[1:5]]


def _unigrams(
    counts: Ints, smoothing: Smoothing, weight: float, v: int
) -> tuple[Floats, tuple[float, float, float]]:
    """Probability of every token, the order below being the uniform distribution."""
    discounts = smoothing.discounts(_counts_of_counts(iter([counts])))
    if not counts.any():
        return np.full(v, 1.0 / v), discounts
    total, types = np.asarray([counts.sum()], float), np.asarray([np.count_nonzero(counts)], float)
    taken = _taken(counts, discounts)
    extra = smoothing.extra(total, types, weight, v)[0] if smoothing.extra else 0.0
    return (counts - taken + (taken.sum() + extra) / v) / (total[0] + extra), discounts


def _order(counts: Counts, n: int, smoothing: Smoothing, cut: int, work: Workspace) -> _Order:
    level = counts.levels[n]
    adjusted = level["adjusted" if smoothing.continuation else "plain"]
    pieces = (adjusted.read(*piece) for piece in work.pieces(len(adjusted), f"discounts of {n}-grams"))
    discounts = smoothing.discounts(_counts_of_counts(pieces))
    return _Order(level["keys"], level["plain"], adjusted, level["suffix"], cut, discounts)


# ---------------------------------------------------------------- contexts


def _context_sums(
    n: int, level: _Order, contexts: int, v: int, smoothing: Smoothing, work: Workspace
) -> Columns:
    """Of every context (a row of the order below): ``total`` of its counts, what they ``left``, their ``types``."""
    names = ["total", "left", *(["types"] if smoothing.extra else [])]

    def weights(start: int, stop: int) -> list[Floats]:
        counts = level.adjusted.read(start, stop)
        pruned = level.plain.read(start, stop) <= level.cut
        left = np.where(pruned, counts, _taken(counts, level.discounts))
        return [counts.astype(float), left, np.ones(counts.size)][: len(names)]

    def fill(columns: Columns) -> None:
        # keys are sorted, so contexts come in order; the last one of a piece may go on in the next
        at = 0
        carried: list[Floats] = [np.zeros(1) for _ in names]
        for start, stop in work.pieces(len(level.keys), f"sum {n}-grams"):
            bins = np.append(0, level.keys.read(start, stop) // v - at)
            for number, (name, values) in enumerate(zip(names, weights(start, stop), strict=True)):
                sums = np.bincount(bins, weights=np.append(carried[number], values)).astype(np.float64)
                columns[name].append(sums[:-1])
                carried[number] = sums[-1:]
            at += int(bins[-1])
        for name, last in zip(names, carried, strict=True):
            columns[name].append(np.append(last, np.zeros(max(contexts - at - 1, 0)))[:contexts])

    return work.step(f"{n}.sums", dict.fromkeys(names, np.float64), fill)


class _Weights:
    """Normaliser and back-off weight of contexts, from their sums."""

    def __init__(self, sums: Columns, smoothing: Smoothing, weight: float, v: int) -> None:
        self._sums, self._extra = sums, smoothing.extra
        self._weight, self._v = weight, v

    def read(self, start: int, stop: int) -> tuple[Floats, Floats]:
        """(normaliser, back-off weight) of contexts start … stop; 1 and 1 where nothing follows."""
        total, left = self._sums["total"].read(start, stop), self._sums["left"].read(start, stop)
        seen = total > 0
        if self._extra:
            extra = self._extra(total, self._sums["types"].read(start, stop), self._weight, self._v)
            total, left = total + extra, left + extra
        total = np.where(seen, total, 1.0)
        return total, np.where(seen, left / total, 1.0)


# ---------------------------------------------------------------- n-grams


def _probabilities(
    n: int, level: _Order, weights: _Weights, below: Column, context_rows: Column, v: int, work: Workspace
) -> Columns:
    """``keys`` and ``p`` of the kept n-grams; ``all``: p of every n-gram of the counts; ``rows``: where it is kept.

    ``below`` holds P of every (n-1)-gram of the counts, ``context_rows`` the rows that they have in the model (-1: none).
    """
    assert level.suffix is not None
    lower = _gather(f"{n}.lower", level.suffix, below, work)

    def fill(columns: Columns) -> None:
        kept_before = 0
        for start, stop in work.pieces(len(level.keys), f"estimate {n}-grams"):
            if start == stop:
                continue
            contexts, tokens = np.divmod(level.keys.read(start, stop), v)
            first, last = int(contexts[0]), int(contexts[-1]) + 1
            total, backoff = weights.read(first, last)
            own = contexts - first
            counts = level.adjusted.read(start, stop)
            p = (counts - _taken(counts, level.discounts)) / total[own] + backoff[own] * lower.read(
                start, stop
            )
            kept = level.plain.read(start, stop) > level.cut
            rows = np.where(kept, kept_before + np.cumsum(kept) - 1, -1)
            kept_before += int(kept.sum())
            columns["keys"].append((context_rows.read(first, last)[own] * v + tokens)[kept])
            columns["p"].append(p[kept])
            columns["all"].append(p)
            columns["rows"].append(rows)

    dtypes: dict[str, type[np.generic]] = {
        "keys": np.int64,
        "p": np.float64,
        "all": np.float64,
        "rows": np.int64,
    }
    made = work.step(f"{n}.model", dtypes, fill)
    lower.clear()
    return made


def _gather(name: str, rows: Column, values: Column, work: Workspace) -> Column:
    """``values[rows]`` where rows are in no order: window after window of the values, each within the memory."""

    def fill(columns: Columns) -> None:
        windows = work.windows(len(values))
        held = values.read(*windows[0])
        for start, stop in work.pieces(len(rows), name):
            wanted = rows.read(start, stop)
            found = np.empty(wanted.size)
            for low, high in windows:
                window = held if len(windows) == 1 else values.read(low, high)
                inside = (wanted >= low) & (wanted < high)
                found[inside] = window[wanted[inside] - low]
            columns["values"].append(found)

    return work.step(name, {"values": np.float64}, fill)["values"]


def _kept_backoffs(n: int, weights: _Weights, rows: Column, work: Workspace) -> Column:
    """Back-off weights of the n-grams that are kept."""

    def fill(columns: Columns) -> None:
        for start, stop in work.pieces(len(rows), f"back-off of {n}-grams"):
            columns["backoff"].append(weights.read(start, stop)[1][rows.read(start, stop) >= 0])

    return work.step(f"{n}.backoff", {"backoff": np.float64}, fill)["backoff"]
