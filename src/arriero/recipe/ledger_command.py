"""The command ``arriero ledger``: runs, sums, errors, what is learnt from them; as text, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console

from arriero.cost.device import DeviceProfile, load_profile
from arriero.cost.ledger import Ledger
from arriero.cost.ledger_corrections import corrections_path, learn
from arriero.cost.ledger_refit import points_of
from arriero.errors import ArrieroError
from arriero.recipe.ledger_errors import all_rows, by_kind, by_quantity, over_time
from arriero.recipe.ledger_printing import print_errors, print_learnt, print_runs, print_sums
from arriero.recipe.ledger_project import Run, read_project, run_folders
from arriero.recipe.ledger_sums import Spent, spent_by_kind
from arriero.recipe.runfolder import RunFolder


@dataclass(frozen=True)
class View:
    """What the command shows: ``data`` as JSON, ``rows`` as CSV, ``show`` as text."""

    data: dict[str, Any]
    rows: list[dict[str, Any]]
    show: Callable[[Console], None]


What = Literal["runs", "sum", "errors", "refit"]
Form = Literal["text", "json", "csv"]


def show_ledger(paths: Sequence[Path], *, what: What, form: Form, console: Console) -> None:
    """Print what the ledgers below ``paths`` (by default the folder ``runs``) say.

    Raises:
        ArrieroError: nothing was run there, or for "refit" this machine has no profile.
        DamagedArtifactError: a ledger or a stored plan was changed.
    """
    view = _VIEWS[what](run_folders(paths or [Path("runs")]))
    if form == "json":
        click.echo(json.dumps(view.data, indent=2))
    elif form == "csv":
        click.echo(as_csv(view.rows), nl=False)
    else:
        view.show(console)


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """A header and a line for each row; nothing for no rows."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _profile() -> DeviceProfile:
    profile = load_profile()
    if profile is None:
        raise ArrieroError("this machine has no profile to correct; `arriero calibrate` measures it")
    stale = profile.stale()
    if stale is not None:
        raise ArrieroError(f"the stored profile {stale}; run `arriero calibrate`, plan and run, then refit")
    return profile


def _runs(folders: list[RunFolder]) -> View:
    project = read_project(folders)
    rows = [_run_row(run) for run in project.runs]
    loose = [
        {"stage": one.stage, "seconds": one.measured.estimate.seconds.value, "finished": one.finished}
        for one in project.loose
    ]
    data = {"runs": rows, "loose": loose, "notes": project.notes}
    return View(data, rows, partial(print_runs, project))


def _run_row(run: Run) -> dict[str, Any]:
    spent = Spent.of("", run.made)
    money = next(iter(spent.money.values()), None)
    return {
        "at": run.at, "recipe": run.recipe, "folder": str(run.folder), "made": len(run.made), "reused": len(run.reused),
        "seconds": spent.known["seconds"].value if run.made else 0.0, "energy_j": spent.known["energy"].value,
        "assumed_share_of_energy": spent.assumed_share,
        "money": money.value if money is not None else None, "currency": money.unit if money is not None else None,
        "outcome": run.outcome,
    }  # fmt: skip


def _sums(folders: list[RunFolder]) -> View:
    project = read_project(folders)
    sums = spent_by_kind(project.made)
    rows = [
        {
            "kind": spent.name, "stages": spent.stages, "seconds": spent.known["seconds"].value,
            "energy_j": spent.known["energy"].value, "assumed_share_of_energy": spent.assumed_share,
            "co2_g": spent.known["co2"].value, **{f"money_{unit}": q.value for unit, q in spent.money.items()},
        }
        for spent in sums
    ]  # fmt: skip
    columns = dict.fromkeys(name for row in rows for name in row)  # a kind may lack a currency
    data = {
        "kinds": [spent.to_json() for spent in sums[:-1]], "total": sums[-1].to_json(), "runs": len(project.runs),
        "notes": project.notes,
    }  # fmt: skip
    return View(
        data,
        [{name: row.get(name) for name in columns} for row in rows],
        partial(print_sums, project, sums),
    )


def _errors(folders: list[RunFolder]) -> View:
    rows, notes = all_rows([Ledger(folder.ledger) for folder in folders])
    lines = [
        {
            "at": row.at, "stage": row.stage, "kind": row.kind, "quantity": row.quantity, "unit": row.predicted.unit,
            "predicted": row.predicted.value, "low": row.predicted.low, "high": row.predicted.high,
            "measured": row.measured.value, "error": row.error, "inside": row.inside, "disturbed": row.disturbed,
        }
        for row in rows
    ]  # fmt: skip
    data = {
        "by_quantity": [asdict(line) for line in by_quantity(rows)], "by_kind": [asdict(line) for line in by_kind(rows)],
        "over_time": [asdict(line) for line in over_time(rows)], "rows": lines, "notes": notes,
    }  # fmt: skip
    return View(data, lines, partial(print_errors, rows, notes))


def _refit(folders: list[RunFolder]) -> View:
    profile = _profile()
    learning = points_of([Ledger(folder.ledger) for folder in folders], profile)
    found, new = learn(profile, learning.points)
    rows = [
        {
            "kind": kind,
            "quantity": quantity,
            "runs": one.runs,
            "factor": one.factor,
            "deviation": one.deviation,
        }
        for (kind, quantity), one in found.found.items()
    ]
    path = corrections_path()
    data = {"corrections": rows, "new": new, "foreign": learning.foreign, "file": str(path)}
    return View(data, rows, partial(print_learnt, found, new, learning.foreign, path))


_VIEWS: dict[What, Callable[[list[RunFolder]], View]] = {
    "runs": _runs, "sum": _sums, "errors": _errors, "refit": _refit,
}  # fmt: skip
