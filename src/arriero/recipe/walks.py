"""The walks as one calls them: from the command line and from Python."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from arriero.artifacts import Artifact
from arriero.artifacts.commit import write_json_atomic
from arriero.cost.ledger_corrections import load_corrections
from arriero.cost.tariffs import Tariffs
from arriero.errors import ArrieroError
from arriero.recipe.calibration import usable_profile
from arriero.recipe.collect import collect
from arriero.recipe.command import given_inputs, given_settings
from arriero.recipe.followers import check_processes, one_walk
from arriero.recipe.ledger_sums import programme_of
from arriero.recipe.limits import Limits, check_limits
from arriero.recipe.plan import RecipePlan, plan_recipe
from arriero.recipe.printing import print_outcome, print_plan, print_single
from arriero.recipe.progress import make_display
from arriero.recipe.run import RunResult, run_plan
from arriero.recipe.runfolder import RunFolder
from arriero.recipe.schema import read_recipe
from arriero.recipe.single import open_inputs, plan_single, run_single, single_step
from arriero.recipe.stop import StopFlag
from arriero.recipe.tensorboard import writer_class
from arriero.stage import get_stage

Say = Callable[[str], None]
_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_size(text: str) -> float:
    """ "4GB" -> 4e9, "512MiB" -> 512 * 2**20, "1000" -> 1000 bytes.

    Raises:
        ArrieroError: not a size.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?I?)B?\s*", text, flags=re.IGNORECASE)
    try:
        assert match is not None
        return float(match[1]) * _UNITS[match[2].upper()]
    except (AssertionError, ValueError, KeyError):
        raise ArrieroError(f"'{text}' is not a size; write it like 4GB, 512MiB or 1000000") from None


def _silent(line: str) -> None:
    """Nobody is listening."""


def make_plan(
    recipe: Path, *, out: Path | None = None, until: str | None = None, sets: Sequence[str] = (), say: Say = _silent
) -> tuple[RecipePlan, RunFolder]:  # fmt: skip
    """Read a recipe and walk it with specs.

    Raises:
        ArrieroError: the recipe or its inputs are wrong.
    """
    parsed = read_recipe(recipe, tuple(sets))
    tariffs = Tariffs.load(parsed.header.cost)
    steps = parsed.until(until) if until else parsed.steps
    folder = RunFolder(out or Path("runs") / parsed.name)
    profile = usable_profile(say)
    plan = plan_recipe(parsed, steps, profile, tariffs, folder, load_corrections(profile))
    return replace(plan, programme=programme_of(plan.total, folder, tariffs)), folder


@one_walk
def run_recipe(
    recipe: Path, *, out: Path | None = None, until: str | None = None, sets: Sequence[str] = (),
    max_seconds: float | None = None, max_money: float | None = None, max_memory: str | None = None,
    tensorboard: Path | None = None, console: Console | None = None, say: Say = _silent,
) -> RunResult:  # fmt: skip
    """Plan, print the plan, store it, run it, report.

    Args:
        tensorboard: folder that gets the metrics of every stage for TensorBoard, beside the JSON lines.

    Raises:
        BudgetError: the plan's upper end is over a limit; nothing has started.
        Interrupted: stopped by a signal; the same call continues.
        ArrieroError: bad input, with one clear line.
    """
    if tensorboard:
        writer_class()
    limits = Limits(max_seconds, max_money, parse_size(max_memory) if max_memory else None)
    console = console or Console(quiet=True)
    parsed = read_recipe(recipe, tuple(sets))
    folder = RunFolder(out or Path("runs") / parsed.name)
    with folder.locked():
        plan, _ = make_plan(recipe, out=out, until=until, sets=sets, say=say)
        print_plan(plan, console)
        check_limits(plan, limits)
        check_processes(planned.step for planned in plan.ahead)
        display = make_display()
        try:
            result = run_plan(plan, folder, display, StopFlag(), events=tensorboard)
        finally:
            display.close()
        page, _ = make_report(folder.path)
    print_outcome(result, page, console)
    return result


def make_report(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write report.html and report.json of a run folder; returns the page's path and the data.

    Raises:
        ArrieroError: no run has left anything there.
    """
    from arriero.recipe.report import report_json, write_report

    data = collect(RunFolder(folder))
    page = folder / "report.html"
    write_report(data, page)
    content = report_json(data)
    write_json_atomic(folder / "report.json", content)
    return page, content


@one_walk
def run_stage(
    kind: str, settings: Mapping[str, Any] | None = None, inputs: Mapping[str, Path | Sequence[Path]] | None = None,
    *, out: Path, cost: Mapping[str, Any] | None = None,
) -> Artifact:  # fmt: skip
    """One stage by itself: ``run_stage("pretrain", {"n_layers": 4}, {"tokens": "runs/q/tokens"}, out="runs/base")``.

    Raises:
        ArrieroError: bad settings or inputs.
    """
    step = single_step(kind, settings or {}, base=Path.cwd())
    lists = {
        role: [Path(given)] if isinstance(given, str | Path) else [Path(p) for p in given]
        for role, given in (inputs or {}).items()
    }
    display = make_display()
    try:
        opened = open_inputs(step, lists)
        return run_single(step, opened, Path(out), display, StopFlag(), Tariffs.load(cost or {}))[0]
    finally:
        display.close()


@one_walk
def run_stage_command(kind: str, params: dict[str, Any], *, console: Console, say: Say) -> None:
    """`arriero <kind> …`: plan the stage, print that, and unless only the plan is wanted, run it."""
    stage = get_stage(kind)
    step = single_step(kind, given_settings(stage.Settings, params), base=Path.cwd(), option=True)
    inputs = open_inputs(step, given_inputs(stage, params))
    tariffs = Tariffs.load({})
    profile = usable_profile(say)
    planned = plan_single(step, inputs, profile, tariffs, load_corrections(profile))
    print_single(planned, console)
    if params["plan_only"]:
        return
    if params["tensorboard"]:
        writer_class()
    display = make_display()
    try:
        artifact, measured = run_single(
            step,
            inputs,
            params["out"] or Path("runs") / kind,
            display,
            StopFlag(),
            tariffs,
            params["tensorboard"],
        )
    finally:
        display.close()
    console.print(
        f"{artifact.path}: " + ("made" if measured else "was there already, reused"), highlight=False
    )
