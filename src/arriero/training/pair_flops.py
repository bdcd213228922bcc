"""Arithmetic of any batch of source and target pairs, from a handful of traces (see ``loop.FlopCount``)."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from arriero.models.layers.attention import EXPLICIT_LENGTH
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.training.objectives.base import Batch
from arriero.training.objectives.seq2seq import PairShape
from arriero.training.precision import Precision
from arriero.training.traced import Work, evaluation_figures, pairs_of, step_figures, update_flops

_SHORT = 96
"""Lengths up to here are traced for short batches; what they take lies on a polynomial."""


class PairFlops:
    """FLOPs of batches of B rows, sources of S and targets of T tokens, C of them scored.

    They are B (a S + b T + c S² + d T² + e S T) + f C, exactly, with factors of their own where long rows attend in
    another way (``EXPLICIT_LENGTH``); where targets are short, d stands before ``pairs_of`` T in place of T². The factors
    come from six traces of the real step.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._factors = cache(self._solve)
        self.update = cache(partial(update_flops, work))

    def training(self, batch: Batch) -> float:
        return self._count(batch, True)

    def evaluation(self, batch: Batch) -> float:
        return self._count(batch, False)

    def _count(self, batch: Batch, train: bool) -> float:
        shape = batch.shape
        assert isinstance(shape, PairShape)
        long_source = shape.source > EXPLICIT_LENGTH
        long_target = shape.length - shape.source > EXPLICIT_LENGTH
        return float(_terms(shape, self._work.precision) @ self._factors(long_source, long_target, train))

    def _solve(self, long_source: bool, long_target: bool, train: bool) -> np.ndarray:
        (s, t, u), (v, w, _) = self._lengths(long_source), self._lengths(long_target)
        pairs = [(s, v, 2), (t, v, 2), (u, v, 2), (s, w, 2), (t, w, 2), (s, v, 4)]
        shapes = [PairShape(2, source + target, scored, False, source) for source, target, scored in pairs]
        traced = [self._traced(shape, train) for shape in shapes]
        # in single tokens of one row, squares are far larger than the rest: scaled, so that nothing is lost
        terms = np.stack([_terms(shape, self._work.precision) for shape in shapes])
        scale = terms.max(axis=0)
        solution = np.linalg.lstsq(terms / scale, np.array(traced), rcond=1e-12)[0]
        return np.asarray(solution / scale)

    def _lengths(self, long: bool) -> tuple[int, int, int]:
        """Three lengths to trace; all the same in a model whose context is that short."""
        config = self._work.config
        assert isinstance(config, Seq2SeqConfig)
        longest = config.context_length if config.bounded else max(config.context_length, 2 * EXPLICIT_LENGTH)
        low, high = (EXPLICIT_LENGTH + 1, longest) if long else (1, min(longest, _SHORT))
        return low + (high - low) // 3, low + 2 * (high - low) // 3, high

    def _traced(self, shape: PairShape, train: bool) -> float:
        if train:
            return step_figures(self._work, [shape], None).flops - self.update()
        return evaluation_figures(self._work, shape, None).flops


def _terms(shape: PairShape, precision: Precision) -> np.ndarray:
    """What the factors stand before, float64 [6]."""
    source, target = float(shape.source), float(shape.length - shape.source)
    body = np.array(
        [source, target, source**2, pairs_of(shape.length - shape.source, precision), source * target]
    )
    return np.append(shape.rows * body, float(shape.scored))
