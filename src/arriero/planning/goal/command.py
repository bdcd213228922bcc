"""The options that `--goal` brings to `arriero plan`, and what they ask for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from arriero.errors import ArrieroError

_Command = TypeVar("_Command", bound=Callable[..., Any])
_GOALS = ("cheapest", "fastest", "greenest", "fits", "best-model")


def _option(*names: str, **settings: Any) -> Any:
    return click.option(*names, **settings)


_OPTIONS = (
    _option("--goal", type=click.Choice(_GOALS), help="Search instead: the best plan for a goal, among devices, counts and layouts."),
    _option("--model", metavar="NAME", help="With --goal: preset, folder or config.json."),
    _option("--models", metavar="A,B", help="Candidates of best-model and fits.  [default: a ladder of presets]"),
    _option("--tokens", metavar="N", help="Tokens to train on: 10B, 300M, 15e12."),
    _option("--deadline", metavar="WHEN", help="36h, 5d, 'Friday 18:00' or a date: what is later does not do."),
    _option("--budget", type=click.FloatRange(min=0, min_open=True), metavar="SUM", help="What costs more does not do."),
    _option("--hardware", metavar="A,B", help="Devices to choose from, e.g. h100-sxm,rtx-4090.  [default: every GPU known]"),
    _option("--max-devices", type=click.IntRange(1, 4096), help="Most devices.  [default: 64; fits: 1]"),
    _option("--devices", metavar="N,M", help="Only these device counts."),
    _option("--context", type=click.IntRange(min=1), help="Tokens of a sequence.  [default: the model's own, 8192 at most]"),
    _option("--batch-tokens", metavar="N", help="Tokens of a step.  [default: usual for the model's size]"),
    _option("--method", metavar="A,B", help="full, lora, qlora.  [default: full; fits: all]"),
    _option("--precision", metavar="A,B", help="bf16, fp32, fp8.  [default: bf16; fp32 too where a device has no bf16]"),
    _option("--optimizer", type=click.Choice(["adamw", "adafactor", "muon"]), help="Whose states are counted.  [default: adamw]"),
    _option("--price", "prices", metavar="[NAME=]USD", multiple=True, help="Your price of a device's hour (repeatable)."),
    _option("--region", metavar="NAME", help="Country whose grid is used.  [default: USA]"),
    _option("--judge-by", "judged_by", type=click.Choice(["high", "middle"]), help="End of the bands that keeps to deadline and budget.  [default: high]"),
    _option("--any-layout", is_flag=True, help="Layouts of other frameworks too: ZeRO 1 and 2."),
    _option("--pictures", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Write pictures there: SVG, text, and PNG with the extra [png]."),
    _option("--csv", "csv_file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write every plan."),
)  # fmt: skip


def goal_options(command: _Command) -> _Command:
    """Add the options to a command; those that were not given come as None, False or ()."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(asked: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in asked.items() if value not in (None, False, ())}


def refuse_without_goal(asked: dict[str, Any]) -> None:
    """Without ``--goal`` none of its options means anything.

    Raises:
        ArrieroError: names the first that was given.
    """
    spelled = {"prices": "price", "judged_by": "judge-by", "csv_file": "csv"}
    for name in given(asked):
        option = spelled.get(name, name).replace("_", "-")
        raise ArrieroError(f"--{option} goes with --goal, such as --goal cheapest")


def run_goal(
    goal: str, asked: dict[str, Any], *, as_json: bool, say: Callable[[str], None], known: Any = None
) -> None:
    """Ask, search, print.

    Args:
        asked: the options. known: what a recipe says (a ``Known``), for what the options leave open.

    Raises:
        ArrieroError: options that do not go together, or something unknown.
    """
    from arriero.planning.goal.ask import question_of

    asked = given(asked)
    csv_file, folder = asked.pop("csv_file", None), asked.pop("pictures", None)
    if csv_file is not None and goal in ("fits", "best-model"):
        raise ArrieroError("--csv goes with --goal cheapest, fastest or greenest")
    if folder is not None and goal == "fits":
        raise ArrieroError("--pictures goes with --goal cheapest, fastest, greenest or best-model")
    question = question_of(goal, asked, datetime.now(), known)
    console = _console()
    if goal == "fits":
        from arriero.planning.goal.fits import answer_fits
        from arriero.planning.goal.show_more import fits_json, print_fits

        fits = answer_fits(question, say)
        _show(as_json, lambda: fits_json(fits), lambda: print_fits(fits, console))
    elif goal == "best-model":
        from arriero.planning.goal.best_model import answer_best_model
        from arriero.planning.goal.show_more import best_model_json, print_best_model

        best = answer_best_model(question, say)
        if folder is not None:
            from arriero.planning.pictures.of_goal import best_model_pictures

            _draw(folder, best_model_pictures(best), say)
        _show(as_json, lambda: best_model_json(best), lambda: print_best_model(best, console))
    else:
        from arriero.planning.goal.answer import answer
        from arriero.planning.goal.export import to_json, write_csv
        from arriero.planning.goal.show import print_answer

        found = answer(question, say)
        if folder is not None:
            from arriero.planning.pictures.of_goal import goal_pictures

            _draw(folder, goal_pictures(found), say)
        if csv_file is not None:
            say(f"{write_csv(found, csv_file):,} plans written to {csv_file}")
        _show(as_json, lambda: to_json(found), lambda: print_answer(found, console))


def _draw(folder: Path, pictures: list[Any], say: Callable[[str], None]) -> None:
    from arriero.planning.pictures import write_pictures, written_words

    say(written_words(folder, write_pictures(folder, pictures)))


def _show(as_json: bool, data: Callable[[], Any], page: Callable[[], None]) -> None:
    if as_json:
        click.echo(json.dumps(data(), indent=2))
    else:
        page()


def _console() -> Any:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(soft_wrap=not terminal, width=None if terminal else 150)
