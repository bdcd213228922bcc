"""The three views of a comparison: at equal time, at equal tokens, and mixed with the n-gram.

Final figures are taken on every second scored document; the others are for choosing the n-gram and for fitting
the mixtures' weights, so that nothing is reported on what it was tuned on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from arriero.evaluation.answers import Floats
from arriero.evaluation.bootstrap import Resampling, ratio_difference_interval, ratio_interval
from arriero.evaluation.compare_entrants import Training
from arriero.evaluation.compare_result import Ends, Figure
from arriero.evaluation.compare_scorer import TokenLogs, document_bits
from arriero.evaluation.compare_statistics import Exact, difference_ends, mean_ends
from arriero.evaluation.documents import Documents
from arriero.models.mixture import fit_weights, mix_logprobs


@dataclass
class Column:
    """One family's figures in one view.

    Attributes:
        by_run: bits per byte of each run.
        bits: bits of each reported document [n], the mean over the runs; None where only the totals are known.
        exact: nothing about it is drawn at random.
    """

    by_run: list[float]
    bits: Floats | None
    exact: bool

    @property
    def value(self) -> float:
        return float(np.mean(self.by_run))

    @property
    def sides(self) -> Sequence[float]:
        return Exact(self.by_run[0]) if self.exact else self.by_run


@dataclass(frozen=True)
class Halves:
    """The scored documents in two: those at odd places are reported on, the others tuned on."""

    documents: Documents

    @property
    def reported_bytes(self) -> Floats:
        return self.documents.bytes[1::2].astype(float)

    def reported(self, logs: TokenLogs) -> Floats:
        """Bits of each reported document [n]."""
        return document_bits(logs[1::2])

    def tuning_bits(self, logs: TokenLogs) -> float:
        return float(document_bits(logs[0::2]).sum())

    def per_byte(self, bits: Floats) -> float:
        return float(bits.sum() / self.reported_bytes.sum())


@dataclass
class Views:
    """Columns by family name, for each view."""

    equal_time: dict[str, Column] = field(default_factory=dict)
    equal_tokens: dict[str, Column] = field(default_factory=dict)
    mixture: dict[str, Column] = field(default_factory=dict)
    weights: dict[str, list[float]] = field(default_factory=dict)


def column(runs: Sequence[TokenLogs], halves: Halves, exact: bool) -> Column:
    """Final figures of a family from its runs' log-probabilities."""
    bits = [halves.reported(logs) for logs in runs]
    return Column([halves.per_byte(found) for found in bits], np.mean(bits, axis=0), exact)


def mixture_column(runs: Sequence[TokenLogs], ngram: TokenLogs, halves: Halves) -> tuple[Column, list[float]]:
    """A family mixed with the n-gram model, ``w p + (1 - w) q``, and each run's weight w.

    w is fitted by EM on the tuning documents, for each run by itself.
    """
    bits, weights = [], []
    for logs in runs:
        pair = [logs, ngram]
        fitted = fit_weights([np.concatenate(side[0::2]) for side in pair]).weights
        weights.append(fitted[0])
        mixed = [mix_logprobs(documents, fitted) for documents in zip(*pair, strict=True)]
        bits.append(halves.reported(mixed))
    return Column([halves.per_byte(found) for found in bits], np.mean(bits, axis=0), False), weights


def common_tokens(trainings: Mapping[str, Training]) -> float | None:
    """The largest training token count that every run with a curve reached; None without curves."""
    ends = [training.curve[-1][0] for training in trainings.values() if training.curve]
    return min(ends, default=None)


def loss_at(curve: Sequence[tuple[float, float, float]], tokens: float) -> float | None:
    """Nats a token at that token count: on the line between the two evaluations around it, over log tokens."""
    points = [(point[0], point[2]) for point in curve if point[0] > 0]
    for (before, low), (after, high) in pairwise(points):
        if before <= tokens <= after:
            part = math.log(tokens / before) / math.log(after / before) if after > before else 0.0
            return low + part * (high - low)
    return points[0][1] if len(points) == 1 and points[0][0] == tokens else None


def at_tokens(training: Training, tokens: float, final: float, per_token: float) -> float | None:
    """A run's bits per byte at an earlier token count, None where its curve does not reach back so far.

    The curve is measured on training's own windows, the final figure on whole documents; the curve is moved by
    what the two differ in at the run's end, so that the view at equal tokens ends where the one at equal time does.

    Args:
        final: bits per byte of the finished run.
        per_token: bits per byte that one nat a token is worth.
    """
    loss = loss_at(training.curve, tokens)
    if loss is None:
        return None
    return final + (loss - training.curve[-1][2]) * per_token


def figure(found: Column, halves: Halves, how: Resampling) -> Figure:
    """A column's mean with both intervals."""
    documents = None
    if found.bits is not None:
        drawn = ratio_interval(found.bits, halves.reported_bytes, how)
        documents = _ends(drawn.low, drawn.high)
    seeds = None if found.exact else mean_ends(found.by_run, how.confidence)
    return Figure(value=found.value, seeds=seeds, documents=documents)


def difference(a: Column, b: Column, halves: Halves, how: Resampling) -> Figure:
    """``a`` minus ``b`` with both intervals; documents are drawn for both sides together."""
    documents = None
    if a.bits is not None and b.bits is not None:
        size = halves.reported_bytes
        drawn = ratio_difference_interval((a.bits, size), (b.bits, size), how)
        documents = _ends(drawn.low, drawn.high)
    return Figure(
        value=a.value - b.value,
        seeds=difference_ends(a.sides, b.sides, how.confidence),
        documents=documents,
    )


def _ends(low: float | None, high: float | None) -> Ends | None:
    return (low, high) if low is not None and high is not None else None
