"""The command line: commands made from the stage registry, and the walks. No logic lives here."""

from __future__ import annotations

import errno
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from arriero.data.command import data
from arriero.errors import ArrieroError
from arriero.planning.estimate.command import estimate
from arriero.planning.goal.command import goal_options, refuse_without_goal, run_goal
from arriero.planning.scaling.command import scaling
from arriero.planning.serving.bench_command import bench
from arriero.serving.compare_command import asks_for_agreement, compare_with
from arriero.serving.serve_command import serve
from arriero.stage import stage_modules
from arriero.version import __version__

Walk = Callable[..., Any]


_AGREEMENT = "compare MODEL --with ENGINE"


class Commands(click.Group):
    """The fixed commands, and one per kind of stage, built when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *stage_modules()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or (_stage_command(name) if name in stage_modules() else None)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {"The road": [*self.commands], "Single stages": [*stage_modules()]}
        for title, names in groups.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name, cmd.get_short_help_str(90)) for name, cmd in found if cmd and not cmd.hidden]
                    + ([(_AGREEMENT, compare_with.get_short_help_str(90))] if title == "The road" else [])
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        from arriero.errors import did_you_mean

        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise ArrieroError(
                f"there is no command '{args[0]}'{did_you_mean(args[0], self.list_commands(ctx))}"
            )
        if args and args[0] == compare_with.name and asks_for_agreement(args[1:]):
            return args[0], compare_with, args[1:]
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="arriero")
def cli() -> None:
    """Arriero takes a language model through its whole life on the machine you have, and tells the price first.

    Start with `arriero plan recipes/quickstart.yaml`, then `arriero run` the same file.
    """


def _out() -> Console:
    return Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160)


def _say(line: str) -> None:
    click.echo(line, err=True)


_RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
_OUT = click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="Run folder.  [default: runs/<name>]"
)
_UNTIL = click.option("--until", metavar="STAGE", help="Only this stage and those it needs.")
_SET = click.option(
    "--set", "sets", metavar="STAGE.KEY=VALUE", multiple=True, help="Override a setting (repeatable)."
)
_TENSORBOARD = click.option(
    "--tensorboard", metavar="DIR", type=click.Path(path_type=Path),
    help="Write the metrics of every stage below DIR for TensorBoard, beside metrics.jsonl.",
)  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="Print data instead of text.")


@cli.command()
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@_OUT
@_UNTIL
@_SET
@_JSON
@goal_options
def plan(
    recipe: Path | None, out: Path | None, until: str | None, sets: tuple[str, ...], as_json: bool,
    goal: str | None, **asked: Any,
) -> None:  # fmt: skip
    """Say what a recipe will make and what it will cost, without running it; or find the best plan for a goal.

    \b
    arriero plan recipes/quickstart.yaml
    arriero plan --goal cheapest --model llama-3.2-1b --tokens 10B --deadline 5d --hardware h100-sxm,rtx-4090
    arriero plan --goal fits --hardware rtx-4090 --model llama-3-8b
    arriero plan --goal best-model --budget 1000 --deadline 3d
    """
    if goal is not None:
        _plan_goal(recipe, out, until, sets, goal, asked, as_json)
        return
    refuse_without_goal(asked)
    if recipe is None:
        raise click.UsageError("Missing argument 'RECIPE' (or --goal).", click.get_current_context())
    from arriero.recipe.printing import print_plan
    from arriero.recipe.walks import make_plan

    planned, _ = make_plan(recipe, out=out, until=until, sets=sets, say=_say)
    if as_json:
        click.echo(json.dumps(planned.to_json(), indent=2))
    else:
        print_plan(planned, _out())


def _plan_goal(
    recipe: Path | None, out: Path | None, until: str | None, sets: tuple[str, ...], goal: str,
    asked: dict[str, Any], as_json: bool,
) -> None:  # fmt: skip
    if out is not None or (recipe is None and (until or sets)):
        raise ArrieroError(
            "--out, --until and --set are about a recipe's run; --goal takes --until and --set with a recipe"
        )
    known = None
    if recipe is not None:
        from arriero.recipe.goal import known_of

        known = known_of(recipe, sets, until, _say)
    run_goal(goal, asked, as_json=as_json, say=_say, known=known)


@cli.command()
@_RECIPE
@_OUT
@_UNTIL
@_SET
@click.option(
    "--max-seconds", metavar="S", type=float, help="Refuse to start when the plan's upper end is over this."
)
@click.option(
    "--max-money", metavar="SUM", type=float, help="The same for money, in the price table's currency."
)
@click.option("--max-memory", metavar="SIZE", help="The same for peak memory, e.g. 4GB or 512MB.")
@_TENSORBOARD
def run(
    recipe: Path, out: Path | None, until: str | None, sets: tuple[str, ...],
    max_seconds: float | None, max_money: float | None, max_memory: str | None, tensorboard: Path | None,
) -> None:  # fmt: skip
    """Plan a recipe, print the plan, run it, and write the report. The same command again goes on or reuses."""
    from arriero.recipe.walks import run_recipe

    run_recipe(
        recipe, out=out, until=until, sets=sets, console=_out(), say=_say,
        max_seconds=max_seconds, max_money=max_money, max_memory=max_memory, tensorboard=tensorboard,
    )  # fmt: skip


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_JSON
def report(folder: Path, as_json: bool) -> None:
    """Write report.html (and report.json) of a run folder: predicted beside measured, curves, scores, lineage."""
    from arriero.recipe.walks import make_report

    page, data = make_report(folder)
    click.echo(json.dumps(data, indent=2) if as_json else f"report: {page}")


@cli.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--sum", "what", flag_value="sum", help="What all of it took, by kind of stage.")
@click.option("--errors", "what", flag_value="errors", help="How the predictions fared.")
@click.option("--refit", "what", flag_value="refit", help="Learn from the runs; later plans here use it.")
@_JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values instead of text.")
def ledger(folders: tuple[Path, ...], what: str | None, as_json: bool, as_csv: bool) -> None:
    """List runs with what they took and became; sum them, judge the predictions, learn from them.

    DIR is a run folder or a folder of them, by default `runs`.
    """
    from arriero.recipe.ledger_command import show_ledger

    form: Any = "csv" if as_csv else "json" if as_json else "text"
    chosen: Any = what or "runs"
    show_ledger(folders, what=chosen, form=form, console=_out())


@cli.group()
def models() -> None:
    """Published shapes and models on disk: sizes to the digit, FLOPs and cache bytes a token."""


@models.command("list")
@click.option("--family", metavar="NAME", help="Only this family, e.g. llama.")
@_JSON
def models_list(family: str | None, as_json: bool) -> None:
    """Every preset on a line; a recipe takes them as `preset: NAME`."""
    from arriero.models.preset import presets
    from arriero.recipe.model_tables import print_presets

    if as_json:
        found = {name: p.parameters for name, p in presets().items() if family in (None, p.family)}
        click.echo(json.dumps(found, indent=2))
    else:
        print_presets(_out(), family)


@models.command("show")
@click.argument("name", metavar="PRESET|PATH")
@_JSON
def models_show(name: str, as_json: bool) -> None:
    """The shape of a preset, or of a model folder, GGUF file or other checkpoint."""
    import dataclasses

    from arriero.models.shape import describe_model
    from arriero.recipe.model_tables import print_shape

    shape = describe_model(name)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(shape), "total": shape.total}, indent=2))
    else:
        print_shape(shape, _out())


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@_JSON
def show(path: Path, as_json: bool) -> None:
    """Print an artifact: facts, lineage back to the raw files, licences met on the way."""
    from arriero.artifacts import Artifact
    from arriero.recipe.printing import print_artifact

    artifact = Artifact.open(path, hashes=True)
    if as_json:
        click.echo(artifact.manifest.model_dump_json(indent=2))
    else:
        print_artifact(artifact, _out())


@cli.command()
@click.argument("what", required=False, metavar="[RECIPE|MODEL]")
@_SET
@click.option(
    "--weights", metavar="KIND", help="Of MODEL: fp32, bf16, int8 or int4.  [default: as they are stored]"
)
@click.option("--short", is_flag=True, help="About half a minute instead of 45 seconds; wider bands.")
@click.option("--missing", is_flag=True, help="Only the stages' rates that the profile lacks.")
def calibrate(
    what: str | None, sets: tuple[str, ...], weights: str | None, short: bool, missing: bool
) -> None:
    """Measure this machine; plans are priced with the result.

    With RECIPE (a .yaml file): measure a few real steps of each model that it trains (of shallower ones where its are long), in
    about half a minute; its plan then rests on those. With MODEL (a preset, a folder, or a config.json): measure steps of answering;
    `estimate --serve` and `bench` then rest on those.
    """
    from arriero.recipe.calibration import (
        calibrate_machine,
        calibrate_missing,
        calibrate_recipe,
        calibrate_serving,
    )
    from arriero.recipe.printing import print_profile, print_serving_trial, print_trials

    budget = 15.0 if short else 30.0
    if what is not None and what.endswith((".yaml", ".yml")):
        print_trials(*calibrate_recipe(Path(what), sets, say=_say, budget_s=budget), _out())
        return
    if what is not None:
        print_serving_trial(*calibrate_serving(what, weights, say=_say, budget_s=budget), _out())
        return
    profile, path = calibrate_missing(say=_say) if missing else calibrate_machine(short=short, say=_say)
    print_profile(profile, path, _out())


_MODEL = click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
_TEMPERATURE = click.option(
    "--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0 is greedy."
)
_MAX_TOKENS = click.option(
    "--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Longest answer."
)

_DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda or cuda:N; auto takes a GPU if there is one.",
)


@cli.command()
@_MODEL
@click.option("--prompt", help="Answer this one message and end.")
@click.option("--system", help="System message.")
@_TEMPERATURE
@_MAX_TOKENS
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampler.")
@_DEVICE
def chat(model: Path, **options: Any) -> None:
    """Talk to a model in the terminal. MODEL is a model artifact or a Hugging Face folder."""
    from arriero.serving.chat import chat as talk

    talk(model, **options)


@cli.command()
@_MODEL
@click.argument("question")
@_DEVICE
def ask(model: Path, question: str, device: str) -> None:
    """Start the server on a free port, ask one question over HTTP, print the answer, stop the server."""
    from arriero.serving.client import demo_question

    answer = demo_question(model, question, device=device)
    click.echo(
        f"{question}\n  {answer.text}\n  ({answer.tokens} tokens, {answer.tokens_per_s:.0f} tokens/s, over HTTP)"
    )


@cli.command()
@click.argument(
    "tokenizers", metavar="TOKENIZER...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--text", "files", metavar="FILE", multiple=True, required=True, type=click.Path(path_type=Path),
    help="JSONL (fields text, lang) or text, .gz too (repeatable).",
)  # fmt: skip
@click.option(
    "--by",
    type=click.Choice(["script", "language"]),
    default="script",
    show_default=True,
    help="What a row is.",
)
@_JSON
def fertility(tokenizers: tuple[Path, ...], files: tuple[Path, ...], by: Any, as_json: bool) -> None:
    """Compare tokenizers: bytes per token and tokens per word, by script or language."""
    from arriero.tokenization.fertility import fertility_report

    table, data = fertility_report(tokenizers, files, by)
    if as_json:
        click.echo(json.dumps(data, ensure_ascii=False, indent=2))
    else:
        _out().print(table)


class SimulateCommand(click.Command):
    """Its options are the cluster's settings, read only when they are asked for."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from arriero.recipe.simulate import simulate_options

        return [*simulate_options(), *super().get_params(ctx)]


@cli.command(cls=SimulateCommand)
@click.option(
    "--svg",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw effective time against interval.",
)
@_JSON
def simulate(svg: Path | None, as_json: bool, **settings: Any) -> None:
    """Simulate failures, checkpoints and restarts of a training cluster: how much of its time trains the model?

    A run that trains in step stops whenever one of its devices fails, goes back to its last whole checkpoint and
    does the work since then again. The command draws such runs, counts what becomes of the wall clock, sets the
    closed form of Young and Daly beside it, and says which checkpoint interval and which restart time reach a target.
    Without options it is Llama 3's run: 16,384 H100 for 54 days. Durations are seconds or text, such as '5 min'.

    \b
    arriero simulate                                     Llama 3's run
    arriero simulate --target 0.9 --interval '30 min'    what does 90 % ask for?
    arriero simulate --devices 1024 --days 14 --gpu a100 --restart '15 min'
    """
    from arriero.recipe.simulate import simulate_cluster

    simulate_cluster(settings, console=_out(), as_json=as_json, svg=svg)


cli.add_command(estimate)
cli.add_command(scaling)
cli.add_command(bench)
cli.add_command(serve)
cli.add_command(data)


def _stage_command(kind: str) -> click.Command:
    from arriero.recipe.command import setting_blocks, stage_params
    from arriero.recipe.command_help import BlockCommand

    stage, params = stage_params(kind)
    params += [
        click.Option(["--out"], metavar="DIR", type=click.Path(path_type=Path), help=f"Folder of the artifact.  [default: runs/{kind}]"),
        click.Option(["--plan", "plan_only"], is_flag=True, help="Only say what it would make and cost."),
        click.Option(["--tensorboard"], metavar="DIR", type=click.Path(path_type=Path), help="Write the metrics below DIR for TensorBoard, beside metrics.jsonl."),
    ]  # fmt: skip

    def callback(**values: Any) -> None:
        from arriero.recipe.walks import run_stage_command

        run_stage_command(kind, values, console=_out(), say=_say)

    short = stage.help[:1].upper() + stage.help[1:].removesuffix(".") + "."
    help_text = f"{short}\n\n{inspect.cleandoc(type(stage).__doc__ or '')}"
    epilog = (
        "`arriero compare MODEL --with ENGINE` is another command." if kind == compare_with.name else None
    )
    return BlockCommand(
        kind, params=params, callback=callback, help=help_text, short_help=short, epilog=epilog,
        blocks=setting_blocks(stage.Settings),
    )  # fmt: skip


def _disk_full(error: OSError) -> str:
    where = f" at {error.filename}" if error.filename else ""
    return f"the disk is full{where}; what was finished is intact: free some space and give the same command again"


def main() -> None:
    """Entry point: errors that a user can act on become one line and an exit code."""
    try:
        cli(standalone_mode=False)
    except ArrieroError as error:
        click.echo(f"arriero: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("arriero: stopped; what was finished is intact and the same command goes on", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        click.echo(f"arriero: {_disk_full(error)}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
