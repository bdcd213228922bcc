"""Answer loss: nats per supervised token on held-out conversations, the figure that fine-tuning lowers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arriero.evaluation.answers import Answer, Floats, score_answers
from arriero.models.protocol import LanguageModel


def score_conversations(
    model: LanguageModel, answers: Sequence[Answer], progress: Callable[[int], None] = lambda tokens: None
) -> tuple[Floats, Floats]:
    """(nats, supervised tokens) of each conversation [n]; their sums' ratio is the answer loss."""
    sums, counts = score_answers(model, answers, progress)
    return -sums, counts
