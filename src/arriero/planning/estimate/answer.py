"""`arriero estimate`: what a training run would take, without a recipe."""

from __future__ import annotations

from arriero.planning.estimate.outcome import case_of, outcome_of
from arriero.planning.estimate.question import Question
from arriero.planning.estimate.sheet import Sheet
from arriero.planning.estimate.training_sheet import training_sheet


def estimate_training(question: Question) -> Sheet:
    """The sheet of a training run.

    Raises:
        ArrieroError: no such model, device or region; settings that do not fit one another; or a layout that does
            not cut the model.
    """
    return training_sheet(outcome_of(case_of(question)))
