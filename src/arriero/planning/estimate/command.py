"""The command ``arriero estimate``: its options and which sheet they ask for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from arriero.errors import ArrieroError

_OBJECTIVES = (
    "causal", "masked", "seq2seq", "sft", "reward", "dpo", "dpo-cached", "ppo", "grpo", "rrtf", "rejection", "distil",
)  # fmt: skip
_OF_METHODS = {
    "answer": ("ppo", "grpo", "rejection"), "group": ("grpo", "rrtf", "rejection"), "teacher": ("distil",),
}  # fmt: skip
_ENERGY = ("region", "grid", "pue", "watts", "water")
_SERVING = ("batch", "speed")
_TRAINING = (
    "tokens", "micro_batch", "batch_tokens", "recompute", "lora_rank", "objective", "zero", "optimizer", "group", "teacher",
)  # fmt: skip


class Count(click.ParamType):
    """A number with a suffix: 15e12, 15T, 300B, 512k."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from arriero.planning.estimate.layout_text import parse_count

        return (
            float(value)
            if isinstance(value, int | float)
            else parse_count(value, f"--{param.name if param else ''}")
        )


def _option(name: str, kind: Any, text: str, **more: Any) -> Any:
    return click.option(name, type=kind, help=text, **more)


@click.command()
@click.argument("model", metavar="MODEL")
@_option("--tokens", Count(), "Tokens to train on: 15e12, 15T, 300B.  [default: 20 for each parameter]")
@_option(
    "--hardware",
    str,
    "Device, e.g. h100, a100-80gb, 4090.  [default: this machine, as calibrated]",
    metavar="NAME",
)
@_option("--count", click.IntRange(min=1), "Devices.", default=1, show_default=True)
@_option(
    "--parallel",
    str,
    "Layout, e.g. 'data 128 tensor 8 pipeline 16'.  [default: the fastest that fits]",
    metavar="TEXT",
)
@_option(
    "--zero",
    click.IntRange(0, 3),
    "What data-parallel copies share: 0 nothing, 1 optimizer states, 2 gradients too, 3 weights too (FSDP).  [default: 3; 1 with a pipeline]",
)
@_option(
    "--precision",
    click.Choice(["bf16", "fp16", "fp32", "fp8"]),
    "Of the matrix products.  [default: bf16; this machine: fp32]",
)
@_option("--context", Count(), "Tokens of a sequence.  [default: the model's own, 8192 at most]")
@_option("--micro-batch", click.IntRange(min=1), "Sequences that a copy takes at once.", default=None)
@_option(
    "--batch-tokens", Count(), "Tokens of a step over all devices.  [default: by model size, GPT-3's table]"
)
@_option(
    "--recompute",
    click.Choice(["none", "selective", "full"]),
    "Activations worked out again in the backward pass.",
)
@_option("--objective", click.Choice(_OBJECTIVES), "What is trained.  [default: the model's own]")
@_option(
    "--lora-rank", click.IntRange(min=0), "Train adapters of this rank alone.  [default: 0, all weights]"
)
@_option("--optimizer", str, "Whose states are counted.  [default: adamw]", metavar="NAME")
@_option("--group", click.IntRange(min=1), "Answers to a prompt, of grpo, rrtf and rejection.  [default: 8]")
@_option("--teacher", str, "Model that --objective distil learns from.", metavar="MODEL")
@_option("--serve", None, "Answer questions instead of training.", is_flag=True)
@_option("--batch", click.IntRange(min=1), "With --serve: answers written at a time.  [default: 1]")
@_option(
    "--answer",
    Count(),
    "Tokens of an answer; the prompt is the rest of --context.  [default: 256; half of it for ppo, grpo, rejection]",
)
@_option(
    "--weights",
    click.Choice(["bf16", "fp32", "int8", "int4"]),
    "How weights are held.  [default: fp32; with --serve bf16]",
)
@_option("--speed", float, "With --serve: tokens/s that a reader must get.  [default: 10]", metavar="N")
@_option("--region", str, "Country whose grid is used (ISO code or name).  [default: USA]", metavar="NAME")
@_option("--grid", float, "Grams of CO2 a kWh, in place of a region's.", metavar="G")
@_option("--pue", float, "Facility energy over device energy.", metavar="N")
@_option("--watts", float, "What a device draws, in place of the modelled power.", metavar="W")
@_option("--price", float, "USD for an hour of one device, in place of the catalogue's.", metavar="USD")
@_option("--water", None, "Show water too (a wide range).", is_flag=True)
@_option(
    "--pictures",
    click.Path(path_type=Path, file_okay=False),
    "Write the sheet's pictures there: SVG, text, and PNG with the extra [png].",
    metavar="DIR",
)
@_option("--json", None, "Print data instead of text.", is_flag=True)
def estimate(model: str, **asked: Any) -> None:
    """What would it take to train or serve a model? Time, memory, energy, CO2 and money, without a recipe.

    MODEL is a preset (`arriero models list`), a model folder or file, or a Hugging Face config.json alone.

    \b
    arriero estimate llama-3-8b --tokens 15T --hardware h100 --count 1024
    arriero estimate mistral-7b --objective sft --lora-rank 16 --tokens 50M --hardware 4090
    arriero estimate llama-3-8b --serve --hardware h100 --context 8192 --batch 32
    arriero estimate ./my-model/config.json --tokens 300M            on this machine
    """
    as_json, folder = asked.pop("json"), asked.pop("pictures")
    with _waiting(
        f"{model}: its real step is traced without computing it; a large model takes a minute or two the first time"
    ):
        sheet, pictures = _serving(model, asked) if asked.pop("serve") else _training(model, asked)
    if folder is not None:
        from arriero.planning.pictures import write_pictures, written_words

        click.echo(written_words(folder, write_pictures(folder, pictures())), err=True)
    if as_json:
        click.echo(json.dumps(sheet.to_json(), indent=2))
    else:
        sheet.print(_console())


def _waiting(line: str) -> Any:
    """A line with a spinner, on a terminal, for as long as it takes."""
    from rich.console import Console

    return Console(stderr=True).status(line)


def _console() -> Any:
    from rich.console import Console

    terminal = sys.stdout.isatty()
    return Console(soft_wrap=not terminal, width=None if terminal else 120)


def _refuse(asked: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if asked.pop(name, None) is not None:
            raise ArrieroError(f"--{name.replace('_', '-')} {why}")


def _tariffs(asked: dict[str, Any]) -> dict[str, Any]:
    """The overrides of the tariffs that were given, by the names that a recipe has for them."""
    names = {
        "region": "region",
        "grid": "grid_g_per_kwh",
        "pue": "pue",
        "watts": "watts",
        "price": "price_per_hour",
    }
    given = {ours: asked.pop(option, None) for option, ours in names.items()}
    return {name: value for name, value in given.items() if value is not None}


def _only_with(asked: dict[str, Any]) -> None:
    """Refuse an option that the method would not read."""
    for name, methods in _OF_METHODS.items():
        if asked[name] is not None and asked["objective"] not in methods:
            raise ArrieroError(f"--{name} goes with --objective {', '.join(methods)}")


def _training(model: str, asked: dict[str, Any]) -> tuple[Any, Callable[[], list[Any]]]:
    """The sheet, and what draws its pictures."""
    from arriero.planning.estimate.outcome import case_of, outcome_of
    from arriero.planning.estimate.question import Question
    from arriero.planning.estimate.training_sheet import training_sheet

    _refuse(asked, _SERVING, "goes with --serve")
    _only_with(asked)
    tariffs = _tariffs(asked)
    given = {name: value for name, value in asked.items() if value is not None}
    outcome = outcome_of(case_of(Question(model=model, tariffs=tariffs, **given)))

    def pictures() -> list[Any]:
        from arriero.planning.pictures.of_estimate import training_pictures

        return training_pictures(outcome)

    return training_sheet(outcome), pictures


def _serving(model: str, asked: dict[str, Any]) -> tuple[Any, Callable[[], list[Any]]]:
    """The sheet, and what draws its pictures."""
    from arriero.planning.serving.answer import estimate_serving
    from arriero.planning.serving.sheet import ServingQuestion

    _refuse(asked, _TRAINING, "is a matter of training; it does not go with --serve")
    asked["water"] = asked["water"] or None
    _refuse(
        asked,
        _ENERGY,
        "is about energy and CO2, which depend on the readers; the serving sheet leaves them out",
    )
    tariffs = _tariffs(asked)
    given = {name: value for name, value in asked.items() if value is not None}
    sheet = estimate_serving(ServingQuestion(model=model, tariffs=tariffs, **given))

    def pictures() -> list[Any]:
        from arriero.planning.pictures.of_estimate import fit_picture

        return [fit_picture(sheet.fit, sheet.model)]

    return sheet, pictures
