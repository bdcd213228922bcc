"""A scaling law and its reconciliation as tables in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.artifacts import Artifact
from arriero.cost.units import format_count
from arriero.evaluation.ladder_files import read_law, read_reconciliation


def print_law(artifact: Artifact, console: Console) -> None:
    """The law, the runs behind it, and what it predicts."""
    law = read_law(artifact)
    console.print(
        f"[bold]L(N, D) = {law.E:.4g} + {law.A:.4g} / N^{law.alpha:.4g} + {law.B:.4g} / D^{law.beta:.4g}[/], "
        f"a run lies about {law.scatter:.2%} off",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    for title in ("parameters", "tokens", "loss", "law", f"{law.confidence:.0%} interval"):
        table.add_column(title, justify="right")
    for run in law.runs:
        sizes = (format_count(run.parameters), format_count(run.tokens))
        table.add_row(escape(run.name), *sizes, f"{run.loss:.3f}", f"{run.fitted:.3f}", "")
    for line in law.predictions:
        sizes = (format_count(line.parameters), format_count(line.tokens))
        table.add_row(
            f"[bold]{escape(line.name)}[/]",
            *sizes,
            "predicted",
            f"{line.loss:.3f}",
            f"{line.low:.3f}–{line.high:.3f}",
        )
    console.print(table)
    for note in (*law.notes, *(f"{line.name}: {note}" for line in law.predictions for note in line.notes)):
        console.print(f"  {escape(note)}", highlight=False)


def print_reconciliation(artifact: Artifact, console: Console) -> None:
    """Each prediction beside its run, in a line."""
    for line in read_reconciliation(artifact).lines:
        console.print(f"  {escape(line.sentence)}", highlight=False)
