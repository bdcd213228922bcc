"""The comparison as files: JSON for programs, CSV for spreadsheets, a table for people, plots for all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from arriero.artifacts.commit import write_bytes_atomic
from arriero.evaluation.compare_plots import comparison_plots
from arriero.evaluation.compare_result import (
    COMPARISON_FILE,
    CSV_FILE,
    RUNS_FILE,
    TABLE_FILE,
    VIEWS,
    Comparison,
    Ends,
    Family,
    Figure,
)

_RUN_FIELDS = (
    "name", "seed", "tokens", "cpu_seconds", "stage_cpu_seconds", "bits_per_byte", "equal_tokens", "mixture", "mixture_weight",
)  # fmt: skip


def write_comparison(found: Comparison, folder: Path) -> None:
    """Write all files of the artifact."""
    files = {
        COMPARISON_FILE: found.model_dump_json(indent=2) + "\n",
        CSV_FILE: families_csv(found),
        RUNS_FILE: runs_csv(found),
        TABLE_FILE: comparison_markdown(found),
        **{f"{plot.name}.svg": plot.svg for plot in comparison_plots(found)},
    }
    for name, text in files.items():
        write_bytes_atomic(folder / name, text.encode())


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return text.getvalue()


def families_csv(found: Comparison) -> str:
    """A row for every family; the ends of both intervals of every view. Empty where there is none."""
    head = ["name", "family", "year", "parameters", "runs", "tokens", "cpu_seconds"]
    for view in VIEWS:
        head += [
            view,
            *(f"{view}_{kind}_{end}" for kind in ("seeds", "documents") for end in ("low", "high")),
        ]
    return _csv(head, (_family_row(family) for family in found.families))


def _family_row(family: Family) -> list[Any]:
    row: list[Any] = [family.name, family.family, family.year, family.n_parameters, len(family.runs)]
    row += [family.tokens, family.cpu_seconds]
    for view in VIEWS:
        figure = family.figure(view)
        none: tuple[None, None] = (None, None)
        row += [figure.value, *(figure.seeds or none), *(figure.documents or none)] if figure else [None] * 5
    return row


def runs_csv(found: Comparison) -> str:
    """A row for every trained model."""
    rows = (
        [family.name, *(getattr(run, field) for field in _RUN_FIELDS)]
        for family in found.families
        for run in family.runs
    )
    return _csv(["family", *_RUN_FIELDS], rows)


def _band(ends: Ends | None) -> str:
    return f"{ends[0]:.3f}–{ends[1]:.3f}" if ends is not None else "–"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure.value:.3f} (s {_band(figure.seeds)}, d {_band(figure.documents)})"


def comparison_markdown(found: Comparison) -> str:
    """Families as rows, views as columns, then the verdicts and what the figures rest on."""
    views = [view for view in VIEWS if any(family.figure(view) for family in found.families)]
    titles = {**VIEWS, "mixture": f"mixed with {found.ngram}"}
    lines = [
        "| model | year | parameters | runs | tokens | CPU seconds | "
        + " | ".join(f"{titles[view]}, bits/byte" for view in views)
        + " |",
        "| --- " * (6 + len(views)) + "|",
    ]
    for family in found.families:
        tokens = f"{family.tokens:,.0f}" if family.tokens is not None else "–"
        cells = [_cell(family.figure(view)) for view in views]
        lines.append(
            f"| {family.name} | {family.year or '–'} | {family.n_parameters:,} | {len(family.runs)} | {tokens} | "
            f"{family.cpu_seconds:,.2f} | " + " | ".join(cells) + " |"
        )
    lines += [
        "",
        f"{100 * found.confidence:g} % intervals: s over seeds, d over documents. Scored: {found.bytes:,} bytes in "
        f"{found.documents:,} documents of '{found.split}'; {found.tuning_documents:,} others to tune on.",
    ]
    for view in VIEWS:
        verdicts = [verdict for verdict in found.verdicts if verdict.view == view]
        if verdicts:
            lines += ["", *(f"- {verdict.sentence}" for verdict in verdicts)]
    return "\n".join([*lines, *(f"\n{note}" for note in found.notes)]) + "\n"
