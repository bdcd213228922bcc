"""The models' answers to the recipe's prompts."""

from __future__ import annotations

from pydantic import ValidationError

from arriero.errors import DamagedArtifactError
from arriero.evaluation.scores import Samples, SampleSet
from arriero.recipe.report.data import ReportData


def sample_sets(data: ReportData) -> list[SampleSet]:
    """Every prompt with its answers, of all evaluations.

    Raises:
        DamagedArtifactError: a samples.json cannot be read.
    """
    found: list[SampleSet] = []
    for sheet in data.evaluations:
        if sheet.samples is not None:
            try:
                found += Samples.model_validate(sheet.samples).prompts
            except ValidationError:
                raise DamagedArtifactError(f"samples.json of stage '{sheet.stage}' cannot be read") from None
    return found
