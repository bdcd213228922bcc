"""The command ``arriero bench``: its options, the table, and the report as one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from arriero.errors import ArrieroError
from arriero.serving.bench_load import CHAT_ANSWER_MEAN, CHAT_PROMPT_MEAN, SPREAD

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0}


class Duration(click.ParamType):
    """A time with its unit: 500ms, 0.5s, or seconds without one."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        number = str(value).strip().rstrip("smu ")
        unit = str(value).strip()[len(number) :].strip()
        try:
            seconds = float(number) * _UNITS[unit]
        except (ValueError, KeyError):
            self.fail(f"'{value}' is no time: write it as 500ms or 0.5s", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"'{value}' should be more than nothing", param, ctx)
        return seconds


class Concurrency(click.ParamType):
    """Numbers with commas between them: 1,4,8."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' should be whole numbers with commas between them, e.g. 1,4,8", param, ctx)
        if not all(1 <= number <= 4096 for number in found):
            self.fail(f"'{value}': each should be from 1 to 4096", param, ctx)
        return tuple(dict.fromkeys(found))


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--url", metavar="URL", help="Measure this server instead of the engine in this process.")
@click.option("--api-key", envvar="ARRIERO_API_KEY", help="Key of the server at --url.")
@click.option(
    "--concurrency", type=Concurrency(), default="1,4,8", show_default=True, help="Requests at a time."
)
@click.option(
    "--workload", "workloads", multiple=True, type=click.Choice(["chat", "shared-prefix"]),
    help="Lengths as in chat traces; or the same behind one common prompt (repeatable).  [default: both]",
)  # fmt: skip
@click.option(
    "--requests", type=click.IntRange(min=1), help="Of a level.  [default: 3 for each at a time, 8 or more]"
)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
    help="After so long a level begins no new request.",
)  # fmt: skip
@click.option(
    "--prompt-tokens", type=click.FloatRange(min=1), default=CHAT_PROMPT_MEAN, show_default=True, help="Mean length of a prompt."
)  # fmt: skip
@click.option(
    "--answer-tokens", type=click.FloatRange(min=1), default=CHAT_ANSWER_MEAN, show_default=True, help="Mean length of an answer."
)  # fmt: skip
@click.option(
    "--spread", type=click.FloatRange(min=0, max=3), default=SPREAD, show_default=True,
    help="Standard deviation of the logarithm of a length; 0 makes all equal.",
)  # fmt: skip
@click.option("--prefix", type=click.IntRange(min=1), help="Tokens of the common prompt.  [default: a quarter of the context, up to 512]")  # fmt: skip
@click.option("--ttft", type=Duration(), help="Goal: time to the first token, e.g. 500ms.")
@click.option("--tpot", type=Duration(), help="Goal: time of each token after it, e.g. 50ms.")
@click.option("--e2e", type=Duration(), help="Goal: time of the whole answer.")
@click.option(
    "--temperature", type=click.FloatRange(0, 2), default=0.0, show_default=True, help="0 is greedy."
)
@click.option(
    "--speculative", type=click.Choice(["off", "auto", "prompt"]), default="off", show_default=True,
    help="Guess tokens ahead. Answers to random prompts repeat themselves, which flatters guessing.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of lengths and prompts.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="cpu, cuda or cuda:N; auto takes a GPU if there is one.",
)
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write the report there too.")  # fmt: skip
def bench(model: str, output: Path | None, **asked: Any) -> None:
    """Measure throughput and latency of a model, beside what planning says of it.

    MODEL is a model folder or a GGUF file. The engine is measured in this process, or with --url a server (then MODEL
    gives the tokenizer, or is only the name that the server knows). Requests come as fast as they are answered, so
    many at a time. TTFT is the time to the first token, TPOT the mean time of each one after it, ITL the time between
    two of them; goodput is the share of requests that met the goals. The last line is the report as JSON.

    \b
    arriero bench runs/quickstart/sft
    arriero bench MODEL --concurrency 1,8,32 --ttft 500ms --tpot 50ms --output bench.json
    arriero bench MODEL --url http://127.0.0.1:8000 --api-key KEY
    """
    if output is not None and not output.parent.is_dir():
        raise ArrieroError(f"--output: there is no folder {output.parent}")
    report = _measure(model, asked)
    line = json.dumps(report)
    if output is not None:
        output.write_text(line + "\n", encoding="utf-8")
    click.echo(line)


def _measure(model: str, asked: dict[str, Any]) -> dict[str, Any]:
    from rich.console import Console

    from arriero.cost.procfs import process_age

    age = process_age()
    from arriero.serving.bench import BenchSettings
    from arriero.serving.bench import bench as measure
    from arriero.serving.bench_figures import Goals
    from arriero.serving.bench_load import Lengths
    from arriero.serving.bench_table import BenchTable

    settings = BenchSettings(
        model=model, url=asked["url"], key=asked["api_key"], concurrency=asked["concurrency"],
        workloads=tuple(dict.fromkeys(asked["workloads"])) or ("chat", "shared-prefix"), requests=asked["requests"],
        seconds=asked["seconds"], lengths=Lengths(asked["prompt_tokens"], asked["answer_tokens"], asked["spread"]),
        prefix=asked["prefix"] or 0, goals=Goals(asked["ttft"], asked["tpot"], asked["e2e"]),
        temperature=asked["temperature"], speculative=asked["speculative"], seed=asked["seed"],
        device=asked["device"],
    )  # fmt: skip
    planner, why_not = _planner(model)
    console = Console(width=None if Console().is_terminal else 160)
    with BenchTable(console) as table:
        report = measure(settings, planner, table.watch)
    if age is not None:
        report["startup_s"] = {"interpreter": age} | report["startup_s"]
    for line in closing_lines(report, why_not):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return report | {"planned_unknown_because": why_not or None}


def _planner(model: str) -> tuple[Any, str]:
    """What says the planned speeds, or why nobody does: a model elsewhere, or a machine that was never measured."""
    from arriero.planning.serving.speeds_beside import planner_for

    if not Path(model).exists():
        return None, f"{model} is no folder here, so its shape is unknown"
    try:
        return planner_for(model), ""
    except ArrieroError as error:
        return None, str(error)


def closing_lines(report: dict[str, Any], why_not: str) -> list[str]:
    """What the table has no room for."""
    start = ", ".join(
        f"{name.replace('_', ' ')} {seconds:.2f} s" for name, seconds in report["startup_s"].items()
    )
    lines = [f"start: {start}"]
    if report["peak_memory_bytes"]:
        lines.append(f"peak memory: {report['peak_memory_bytes'] / 2**20:,.0f} MiB")
    last = report["levels"][-1]
    for name, words in (("joules_per_token", "J a token"), ("money_per_million_tokens", "a million tokens")):
        found = last[name]
        value = found["value"]
        text = (
            f"unknown: {found['source']}"
            if value is None
            else f"{value:.3g} ({found['low']:.3g}–{found['high']:.3g})"
        )
        unit = f" {found['unit']}" if name.startswith("money") and value is not None else ""
        lines.append(
            f"{words}, last row: {text}{unit}" + (f", {found['basis']}" if value is not None else "")
        )
    if why_not:
        lines.append(f"planned: unknown ({why_not})")
    if report["bandwidth_bytes_per_s"] is None:
        lines.append(f"memory's rate: {report['bandwidth_source']}")
    return lines
