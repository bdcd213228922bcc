"""The evaluation's page: dots with whiskers for every measure, and the verdicts."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from arriero.errors import DamagedArtifactError
from arriero.evaluation.scale import Scale
from arriero.evaluation.scores import Difference, Measure, Scores, plain, signed
from arriero.recipe.report.data import ScoreSheet


@dataclass(frozen=True)
class Dot:
    """One model's row: positions in per cent of the track."""

    model: str
    reference: bool
    at: float
    low: float | None
    width: float | None
    text: str
    band: str


@dataclass(frozen=True)
class Verdict:
    """One paired difference."""

    model: str
    to: str
    relation: str
    mark: str
    """better, worse or even"""
    difference: str
    band: str
    sentence: str


@dataclass(frozen=True)
class Chart:
    """One measure."""

    title: str
    unit: str
    hint: str
    dots: list[Dot]
    ticks: list[tuple[float, str]]
    verdicts: list[Verdict]
    against_references: list[Verdict]


def read_scores(sheet: ScoreSheet) -> Scores:
    """The sheet's scores.json.

    Raises:
        DamagedArtifactError: it is none.
    """
    try:
        return Scores.model_validate(sheet.scores)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DamagedArtifactError(f"scores.json of stage '{sheet.stage}' cannot be read: {where}") from None


def charts(scores: Scores) -> list[Chart]:
    """A chart for every measure."""
    references = {line.name for line in scores.models if line.kind == "reference"}
    return [_chart(measure, references) for measure in scores.measures]


def _chart(measure: Measure, references: set[str]) -> Chart:
    ends = [end for score in measure.scores for end in (score.low, score.value, score.high)]
    scale = Scale.over(ends) or Scale(0.0, 1.0)
    dots = [
        Dot(
            score.model, score.model in references, scale.at(score.value),
            scale.at(score.low) if score.low is not None else None,
            scale.at(score.high) - scale.at(score.low) if score.low is not None and score.high is not None else None,
            plain(score.value, measure.unit), _band(score.low, score.high, measure.unit),
        )
        for score in measure.scores
    ]  # fmt: skip
    verdicts = [_verdict(difference, measure) for difference in measure.differences]
    some = "" if measure.n == measure.of else f" of {measure.of:,}"
    return Chart(
        title=measure.title, unit="" if measure.unit in ("share", "bits/byte") else measure.unit,
        hint=f"{measure.better} is better · {measure.n:,}{some} held-out {measure.items}", dots=dots,
        ticks=[(scale.at(tick), _tick(tick, measure.unit)) for tick in scale.ticks(5)],
        verdicts=[v for v in verdicts if v.relation != "reference"],
        against_references=[v for v in verdicts if v.relation == "reference"],
    )  # fmt: skip


def _band(low: float | None, high: float | None, unit: str) -> str:
    if low is None or high is None:
        return "no interval"
    return f"{plain(low, unit).removesuffix(' %')}–{plain(high, unit).removesuffix(' %')}"


def _tick(value: float, unit: str) -> str:
    return f"{100 * value:.0f} %" if unit == "share" else f"{value:g}"


def _verdict(found: Difference, measure: Measure) -> Verdict:
    mark = "even" if found.better is None else "better" if found.better else "worse"
    band = ""
    if found.low is not None and found.high is not None:
        band = f"{signed(found.low, measure.unit)} to {signed(found.high, measure.unit)}".replace(
            " points", "", 1
        )
    return Verdict(
        found.model, found.to, found.relation, mark, signed(found.value, measure.unit), band, found.verdict
    )
