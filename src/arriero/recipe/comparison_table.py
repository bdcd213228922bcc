"""A comparison of families as a table in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.artifacts import Artifact
from arriero.cost.units import format_count, format_seconds
from arriero.evaluation.compare_result import COMPARISON_FILE, VIEWS, Comparison, Figure


def print_comparison(artifact: Artifact, console: Console) -> None:
    """Families as rows, views as columns with the interval over seeds (of an n-gram model: over documents)."""
    found = Comparison.model_validate_json(artifact.file(COMPARISON_FILE).read_bytes())
    views = [view for view in VIEWS if any(family.figure(view) for family in found.families)]
    table = Table(box=None, pad_edge=False, header_style="bold", title="Bits per byte", title_justify="left")
    for title in ("family", "year"):
        table.add_column(title)
    for title in ("runs", "CPU time", "tokens", *(VIEWS[view] for view in views)):
        table.add_column(title, justify="right")
    for family in found.families:
        tokens = format_count(family.tokens) if family.tokens is not None else "–"
        table.add_row(
            escape(family.name), str(family.year or "–"), str(len(family.runs)), format_seconds(family.cpu_seconds), tokens,
            *(_cell(family.figure(view)) for view in views),
        )  # fmt: skip
    console.print(table)
    for verdict in found.verdicts:
        console.print(f"  {escape(verdict.sentence)}", highlight=False)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    ends = figure.seeds or figure.documents
    return f"{figure.value:.3f}" + (f" ({ends[0]:.3f}–{ends[1]:.3f})" if ends else "")
