"""Preference accuracy: the share of held-out pairs whose preferred answer the model finds likelier.

Sums over answer tokens favour the shorter answer, means over them don't: both are told. A tie is no win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arriero.evaluation.answers import Answer, Floats, score_answers
from arriero.evaluation.progress import Progress, silent
from arriero.models.protocol import LanguageModel


@dataclass(frozen=True)
class PairScores:
    """For each pair [n], 1.0 where the chosen answer wins, else 0.0."""

    by_sum: Floats
    by_mean: Floats


def score_pairs(
    model: LanguageModel,
    pairs: Sequence[tuple[Answer, Answer]],
    progress: Progress = silent,
) -> PairScores:
    """Compare log p(chosen | prompt) with log p(rejected | prompt), as sums and as means over the answers' tokens."""
    sums, counts = score_answers(model, [side for pair in pairs for side in pair], progress)
    means = sums / counts
    return PairScores(
        by_sum=(sums[0::2] > sums[1::2]).astype(float), by_mean=(means[0::2] > means[1::2]).astype(float)
    )
