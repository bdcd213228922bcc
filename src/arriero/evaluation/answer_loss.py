"""Answer loss: nats per supervised token on held-out conversations, the figure that fine-tuning lowers."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.evaluation.answers import Answer, Floats, score_answers
from arriero.evaluation.progress import Progress, silent
from arriero.models.protocol import LanguageModel


def score_conversations(
    model: LanguageModel, answers: Sequence[Answer], progress: Progress = silent
) -> tuple[Floats, Floats]:
    """(nats, supervised tokens) of each conversation [n]; their sums' ratio is the answer loss."""
    sums, counts = score_answers(model, answers, progress)
    return -sums, counts
