"""The tables of ``arriero ledger``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arriero.cost.ledger import Row
from arriero.cost.ledger_corrections import Corrections
from arriero.cost.meter_energy import share_text
from arriero.cost.units import format_seconds
from arriero.planning.pictures import accuracy_picture
from arriero.planning.pictures.of_ledger import pairs_of
from arriero.recipe.ledger_errors import ErrorLine, by_kind, by_quantity, error_plot, over_time
from arriero.recipe.ledger_project import Project, Run
from arriero.recipe.ledger_sums import Spent


def _table(*columns: str, left: int = 1, title: str = "") -> Table:
    """The first ``left`` columns are words, the others figures."""
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left", title_style="bold"
    )  # fmt: skip
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right", overflow="fold")
    return table


def print_runs(project: Project, console: Console) -> None:
    """A line for each run, the latest last."""
    table = _table("when", "recipe", "outcome", "made", "reused", "time", "energy", "money", left=3)
    for run in project.runs:
        table.add_row(*_run_cells(run))
    console.print(table)
    for one in project.loose:
        if one.finished:
            console.print(
                f"  {escape(one.stage)}: finished without a record (killed in between), "
                f"{format_seconds(one.measured.estimate.seconds.value)} from its manifest"
            )
        else:
            console.print(
                f"  {escape(one.stage)}: not finished, {format_seconds(one.measured.estimate.seconds.value)} so far"
            )
    _print_notes(project.notes, console)


def _run_cells(run: Run) -> list[str]:
    spent = Spent.of("", run.made)
    figures = [spent.text(name) if run.made else "-" for name in ("seconds", "energy", "money")]
    when = run.at[:16].replace("T", " ")
    return [when, escape(run.recipe), run.outcome, str(len(run.made)), str(len(run.reused)), *figures]


def print_sums(project: Project, sums: Sequence[Spent], console: Console) -> None:
    """By kind of stage and in all; each second once."""
    with_co2 = any(spent.known["co2"].known for spent in sums)
    names = ("seconds", "energy", *(("co2",) if with_co2 else ()), "money")
    table = _table("stage", "runs", "time", "energy", *(("CO2",) if with_co2 else ()), "money")
    for spent in sums:
        if spent is sums[-1]:
            table.add_section()
        table.add_row(escape(spent.name), str(spent.stages), *(spent.text(name) for name in names))
    console.print(f"[bold]{len(project.runs)} runs[/]", highlight=False)
    console.print(table)
    share = sums[-1].assumed_share
    if share is not None and share > 0:
        console.print(f"[dim]{share_text(share)}: no counter could be read[/]", highlight=False)
    _print_notes(project.notes, console)


def print_errors(rows: Sequence[Row], notes: Sequence[str], console: Console) -> None:
    """Error by quantity, by kind of stage, and over time."""
    if not rows:
        console.print("no stage has both a prediction and a measurement yet")
        _print_notes(notes, console)
        return
    console.print(
        "error is predicted / measured - 1: +20 % says that too much was predicted\n", highlight=False
    )
    console.print(_error_table("By quantity", by_quantity(rows)))
    console.print(_error_table("\nBy kind of stage", by_kind(rows)))
    console.print(_error_table("\nOver time", over_time(rows)))
    plot = error_plot(rows)
    if plot:
        console.print("\nerror of seconds, run by run (o inside its band, x outside)")
        console.print(plot, markup=False, highlight=False, soft_wrap=True)
    picture = accuracy_picture(pairs_of(rows, with_day=True))
    console.print(f"\n{picture.text}", markup=False, highlight=False, soft_wrap=True)
    disturbed = len({row.record for row in rows if row.disturbed})
    if disturbed:
        console.print(f"[dim]{disturbed} of these runs shared the machine, or it slept[/]", highlight=False)
    _print_notes(notes, console)


def _error_table(title: str, lines: Sequence[ErrorLine]) -> Table:
    table = _table(
        "quantity", "of", "runs", "bias", "mean size", "worst", "inside band", "from", "to", left=2, title=title
    )  # fmt: skip
    for line in lines:
        table.add_row(
            line.quantity.replace("_", " "), escape(line.group), str(line.runs), f"{line.bias:+.1%}", f"{line.size:.1%}",
            f"{line.worst:+.1%}", "-" if line.inside is None else f"{line.inside:.0%}", line.first[:10], line.last[:10],
        )  # fmt: skip
    return table


def print_learnt(found: Corrections, new: int, foreign: int, path: Path, console: Console) -> None:
    """The corrections in force."""
    table = _table("stage", "quantity", "runs", "predictions are multiplied by", "spread of the runs", left=2)
    for (kind, quantity), correction in found.found.items():
        table.add_row(
            escape(kind), quantity.replace("_", " "), str(correction.runs), f"{correction.factor:.3f}",
            f"{correction.deviation:.1%}",
        )  # fmt: skip
    if found.found:
        console.print(table)
    console.print(f"{new} new figures learnt; plans on this machine use them", highlight=False)
    if foreign:
        console.print(f"{foreign} stages left out: another machine or an earlier profile predicted them")
    console.print(f"written to {path}", highlight=False, soft_wrap=True)


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in dict.fromkeys(notes):
        console.print(f"[dim]{escape(note)}[/]", highlight=False)
