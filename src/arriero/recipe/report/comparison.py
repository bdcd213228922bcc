"""The comparison's page: families in each view with both intervals, the verdicts, and the plots."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from arriero.cost.units import format_count, format_seconds
from arriero.errors import DamagedArtifactError
from arriero.evaluation.compare_plots import Plot, comparison_plots
from arriero.evaluation.compare_result import VIEWS, Comparison, Ends, Family, Figure, View
from arriero.evaluation.compare_result import Verdict as Judged
from arriero.evaluation.scale import Scale
from arriero.evaluation.scores import signed
from arriero.recipe.report.data import ComparisonSheet, ReportData
from arriero.recipe.report.evaluation import Verdict

UNIT = "bits/byte"


@dataclass(frozen=True)
class Bar:
    """An interval on a track: where it begins and how wide it is, in per cent."""

    low: float
    width: float


@dataclass(frozen=True)
class Row:
    """One family in one view."""

    name: str
    ngram: bool
    at: float
    seeds: Bar | None
    documents: Bar | None
    text: str
    band: str


@dataclass(frozen=True)
class ViewChart:
    """One view of all families."""

    title: str
    hint: str
    rows: list[Row]
    ticks: list[tuple[float, str]]
    verdicts: list[Verdict]


@dataclass(frozen=True)
class FamilyLine:
    """One row of the table."""

    name: str
    year: str
    paper: str
    parameters: str
    runs: int
    tokens: str
    cpu: str
    weight: str


@dataclass(frozen=True)
class ComparisonPage:
    """Everything that a comparison shows."""

    stage: str
    lead: str
    charts: list[ViewChart]
    plots: list[Plot]
    families: list[FamilyLine]
    ngram: str | None
    notes: list[str]


def read_comparison(sheet: ComparisonSheet) -> Comparison:
    """The sheet's comparison.json.

    Raises:
        DamagedArtifactError: it is none.
    """
    try:
        return Comparison.model_validate(sheet.comparison)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise DamagedArtifactError(
            f"comparison.json of stage '{sheet.stage}' cannot be read: {where}"
        ) from None


def comparison_pages(data: ReportData) -> list[ComparisonPage]:
    """A page part for every compare stage."""
    return [_page(sheet.stage, read_comparison(sheet)) for sheet in data.comparisons]


def _page(stage: str, found: Comparison) -> ComparisonPage:
    lead = (
        f"Bits per byte of {found.documents:,} held-out documents ({found.bytes:,} bytes). Whiskers are "
        f"{100 * found.confidence:g} % intervals over seeds, pale bars over documents. One family is called better "
        "than another only where both say so."
    )
    return ComparisonPage(
        stage, lead, [chart for view in VIEWS if (chart := _chart(view, found)) is not None], comparison_plots(found),
        [_line(family) for family in found.families], found.ngram, found.notes,
    )  # fmt: skip


def _hint(view: View, found: Comparison) -> str:
    if view == "equal_tokens":
        return f"read from the curves at {format_count(found.tokens_compared)} training tokens; seeds alone decide"
    if view == "mixture":
        return f"w · net + (1 − w) · {found.ngram}, w fitted on other documents; judged against {found.ngram} alone"
    return "finished models, each family at its own measured CPU seconds"


def _chart(view: View, found: Comparison) -> ViewChart | None:
    figures = [(family, figure) for family in found.families if (figure := family.figure(view)) is not None]
    scale = Scale.over(
        [end for _, figure in figures for end in (figure.value, *(figure.widest or ()))] if figures else []
    )
    if scale is None:
        return None
    verdicts = [_verdict(verdict) for verdict in found.verdicts if verdict.view == view]
    return ViewChart(
        title=VIEWS[view], hint=_hint(view, found), rows=[_row(*pair, scale) for pair in figures],
        ticks=[(scale.at(tick), f"{tick:g}") for tick in scale.ticks(5)], verdicts=verdicts,
    )  # fmt: skip


def _bar(ends: Ends | None, scale: Scale) -> Bar | None:
    return Bar(scale.at(ends[0]), scale.at(ends[1]) - scale.at(ends[0])) if ends is not None else None


def _row(family: Family, figure: Figure, scale: Scale) -> Row:
    shown = figure.seeds or figure.documents
    return Row(
        name=family.name, ngram=family.family == "ngram", at=scale.at(figure.value),
        seeds=_bar(figure.seeds, scale), documents=_bar(figure.documents, scale), text=f"{figure.value:.3f}",
        band=f"{shown[0]:.3f}–{shown[1]:.3f}" if shown else "no interval",
    )  # fmt: skip


def _verdict(found: Judged) -> Verdict:
    mark = "even" if found.better is None else "better" if found.better else "worse"
    ends = found.difference.widest
    band = f"{signed(ends[0], UNIT)} to {signed(ends[1], UNIT)}" if ends is not None else ""
    return Verdict(
        found.model, found.to, found.view, mark, signed(found.difference.value, UNIT), band, found.sentence
    )


def _line(family: Family) -> FamilyLine:
    weights = [run.mixture_weight for run in family.runs if run.mixture_weight is not None]
    return FamilyLine(
        name=family.name, year=str(family.year or "–"), paper=family.paper, parameters=format_count(family.n_parameters),
        runs=len(family.runs), tokens=format_count(family.tokens) if family.tokens is not None else "–",
        cpu=format_seconds(family.cpu_seconds), weight=f"{sum(weights) / len(weights):.2f}" if weights else "–",
    )  # fmt: skip
