"""The page: sections in their order, rendered into one file that needs nothing from outside."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from arriero.artifacts.commit import write_bytes_atomic
from arriero.cost.units import format_bytes
from arriero.evaluation.svg_plot import COLOURS, DARK_COLOURS
from arriero.recipe.report.comparison import comparison_pages
from arriero.recipe.report.compression import compression_tables
from arriero.recipe.report.cost_pictures import cost_pictures
from arriero.recipe.report.costs import MARKS, QUANTITIES, cost_table, shown_quantities, time_rows
from arriero.recipe.report.curation import curations
from arriero.recipe.report.data import ReportData, error_factor
from arriero.recipe.report.details import details
from arriero.recipe.report.evaluation import charts, read_scores
from arriero.recipe.report.headline import headline
from arriero.recipe.report.ladder import ladder_parts
from arriero.recipe.report.road import road
from arriero.recipe.report.samples import sample_sets
from arriero.recipe.report.totals import totals
from arriero.recipe.report.training import training_parts


def write_report(data: ReportData, path: Path) -> None:
    """Write the page to ``path``, whole or not at all."""
    write_bytes_atomic(path, render(data).encode("utf-8"))


def render(data: ReportData) -> str:
    """The page as HTML. Every text of the data is escaped."""
    sums = totals(data)
    rows, ticks = time_rows(data)
    evaluations = [
        (sheet.stage, scores, charts(scores)) for sheet in data.evaluations for scores in [read_scores(sheet)]
    ]
    return _environment().get_template("page.html.j2").render(
        data=data, totals=sums, answers=headline(data, sums), road=road(data), time_rows=rows, time_ticks=ticks,
        cost_rows=cost_table(data, sums), quantities=shown_quantities(data), marks=MARKS, training=training_parts(data),
        evaluations=evaluations, samples=sample_sets(data), curations=curations(data),
        comparisons=comparison_pages(data), ladders=ladder_parts(data), compressions=compression_tables(data), details=details(data),
        cost_pictures=cost_pictures(data), colours=list(zip(COLOURS, DARK_COLOURS, strict=True)),
    )  # fmt: skip


def report_json(data: ReportData) -> dict[str, Any]:
    """The report as data: everything that the page shows, the totals, and every stage's measured over predicted."""
    sums = totals(data)
    content = data.model_dump(mode="json")
    for stage, line in zip(data.stages, content["stages"], strict=True):
        line["measured_over_predicted"] = {
            name: error_factor(getattr(stage.predicted, name), getattr(stage.measured, name))
            for name in QUANTITIES
            if stage.predicted is not None and stage.measured is not None
        }
    content["totals"] = {
        "measured": sums.measured.model_dump(mode="json") if sums.measured else None,
        "predicted_of_compared": sums.predicted.model_dump(mode="json") if sums.predicted else None,
        "measured_of_compared": sums.compared.model_dump(mode="json") if sums.compared else None,
        "stages": sums.stages,
        "done": sums.done,
        "reused": sums.reused,
    }
    finite: dict[str, Any] = _finite(content)
    return finite


def _finite(value: Any) -> Any:
    """The value with null in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("arriero.recipe.report"),
        autoescape=select_autoescape(enabled_extensions=("html.j2", "svg.j2"), default=True),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["bytes"] = format_bytes
    environment.filters["day"] = lambda text: (text or "unknown")[:16].replace("T", " ")
    environment.filters["basename"] = lambda text: Path(text).name
    return environment
