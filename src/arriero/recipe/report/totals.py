"""Sums over the stages of a run, predicted and measured."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost import Estimate, total_estimate
from arriero.recipe.report.data import ReportData, StageLine, error_factor


@dataclass(frozen=True)
class Totals:
    """The whole road. ``predicted`` and ``compared`` go over the stages that have both sides."""

    measured: Estimate | None
    predicted: Estimate | None
    compared: Estimate | None
    stages: int
    done: int
    reused: int
    compared_stages: int

    @property
    def factor(self) -> float | None:
        """Measured over predicted seconds of the stages that have both."""
        if self.predicted is None or self.compared is None:
            return None
        return error_factor(self.predicted.seconds, self.compared.seconds)


def compared_stages(data: ReportData) -> list[StageLine]:
    """Stages with a prediction and a measurement."""
    return [stage for stage in data.stages if stage.predicted is not None and stage.measured is not None]


def totals(data: ReportData) -> Totals:
    """Sums; reused stages count with what they took when they were made."""
    both = compared_stages(data)
    measured = [stage.measured for stage in data.stages if stage.measured is not None]
    return Totals(
        measured=total_estimate(measured) if measured else None,
        predicted=total_estimate([s.predicted for s in both if s.predicted is not None]) if both else None,
        compared=total_estimate([s.measured for s in both if s.measured is not None]) if both else None,
        stages=len(data.stages),
        done=sum(stage.state == "done" for stage in data.stages),
        reused=sum(stage.reused for stage in data.stages),
        compared_stages=len(both),
    )
