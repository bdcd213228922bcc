"""The ladder's part of the page: the law, the runs behind it, and its predictions beside what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from arriero.cost.units import format_count
from arriero.errors import ArrieroError
from arriero.evaluation.ladder_plot import law_plot
from arriero.evaluation.ladder_result import LawResult, ReconciledLine, Reconciliation
from arriero.recipe.report.data import LadderSheet, ReportData

Kind = TypeVar("Kind", bound=BaseModel)


@dataclass(frozen=True)
class LadderRow:
    """One model of the table, as text."""

    name: str
    parameters: str
    tokens: str
    law: str
    interval: str
    measured: str
    off: str


@dataclass(frozen=True)
class LadderPart:
    """Everything that a ladder shows."""

    stage: str
    lead: str
    svg: str
    rows: list[LadderRow]
    sentences: list[str]
    notes: list[str]


def ladder_parts(data: ReportData) -> list[LadderPart]:
    """One part for each ladder of the run.

    Raises:
        ArrieroError: a file of an artifact cannot be understood.
    """
    return [_part(sheet) for sheet in data.ladders]


def _part(sheet: LadderSheet) -> LadderPart:
    law = _read(sheet.stage, LawResult, sheet.law)
    done = [
        line for found in sheet.reconciliations for line in _read(sheet.stage, Reconciliation, found).lines
    ]
    lead = (
        f"L(N, D) = {law.E:.3g} + {law.A:.3g} / N^{law.alpha:.3g} + {law.B:.3g} / D^{law.beta:.3g} nats a token, "
        f"fitted to {len(law.runs)} runs, which lie about {law.scatter:.2%} off it."
    )
    reconciled = Reconciliation(confidence=law.confidence, lines=done) if done else None
    notes = [*law.notes, *(f"{line.name}: {note}" for line in law.predictions for note in line.notes)]
    return LadderPart(
        sheet.stage,
        lead,
        law_plot(law, reconciled),
        _rows(law, done),
        [line.sentence for line in done],
        notes,
    )


def _rows(law: LawResult, done: list[ReconciledLine]) -> list[LadderRow]:
    found = {line.prediction.name: line for line in done}
    rows = [
        LadderRow(
            run.name, format_count(run.parameters), format_count(run.tokens), f"{run.fitted:.3f}", "",
            f"{run.loss:.3f}", f"{run.loss / run.fitted - 1:+.2%}",
        )
        for run in law.runs
    ]  # fmt: skip
    for line in law.predictions:
        run = found.get(line.name)
        rows.append(
            LadderRow(
                f"{line.name} (predicted)", format_count(line.parameters), format_count(line.tokens), f"{line.loss:.3f}",
                f"{line.low:.3f}–{line.high:.3f}", f"{run.measured:.3f}" if run else "–", f"{run.error:+.2%}" if run else "",
            )
        )  # fmt: skip
    return rows


def _read(stage: str, kind: type[Kind], content: object) -> Kind:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ArrieroError(f"the law of stage '{stage}' cannot be read: {where}") from None
