"""The command ``arriero compare MODEL --with ENGINE``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click


def asks_for_agreement(arguments: Sequence[str]) -> bool:
    """Whether what follows `arriero compare` means this command, and not the stage of that name.

    The stage takes options only, so a model in the first place or --with anywhere can only be meant for this one.
    """
    first = bool(arguments) and not arguments[0].startswith("-")
    return first or any(a == "--with" or a.startswith("--with=") for a in arguments)


@click.command("compare")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--with", "rival", metavar="ENGINE", required=True,
    help="transformers, llama.cpp, or the address of a server that has the model.",
)  # fmt: skip
@click.option("--api-key", envvar="ARRIERO_API_KEY", help="Key of the server.")
@click.option(
    "--text", "files", metavar="FILE", multiple=True, type=click.Path(path_type=Path),
    help="JSONL (field text) or text, .gz too (repeatable).  [default: five built-in texts]",
)  # fmt: skip
@click.option(
    "--max-tokens", type=click.IntRange(min=2), default=256, show_default=True, help="Scored of each text."
)
@click.option(
    "--tolerance", type=click.FloatRange(min=0, min_open=True),
    help="Largest difference of a token's log-probability, in nats.  [default: 0.001; with llama.cpp "
    "0.05 for weights of 16 bits and 1 for packed ones; 0.05 for a server]",
)  # fmt: skip
@click.option(
    "--exact",
    is_flag=True,
    help="Compute here in float32 with unpacked weights, as transformers does: then what differs is no rounding.",
)
@click.option("--json", "as_json", is_flag=True, help="Print data instead of text.")
def compare_with(
    model: Path, rival: str, api_key: str | None, files: tuple[Path, ...], max_tokens: int, tolerance: float | None,
    exact: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare a model here with the same model in another engine: log-probabilities, token ids, chat template.

    Ends with status 1 when they disagree. A model folder is written as a float32 GGUF file for llama.cpp.
    (`arriero compare` with options only is the stage that compares families of models.)

    \b
    arriero compare runs/quickstart/sft --with transformers
    arriero compare runs/quickstart/int4 --with transformers --exact
    arriero compare model.gguf --with llama.cpp --text some.txt
    arriero compare MODEL --with http://127.0.0.1:8000 --api-key KEY
    """
    from arriero.inference.engine import Engine
    from arriero.serving.compare import TEXTS, compare, exact_engine
    from arriero.serving.compare_rivals import open_rival
    from arriero.tokenization.fertility import read_texts

    texts = [text for _, text in read_texts(files)] if files else list(TEXTS)
    with open_rival(rival, model, api_key) as other:
        engine = exact_engine(model) if exact else Engine.load(model, max_batch=1)
        report = compare(engine, other, texts, tolerance=tolerance, most_tokens=max_tokens)
    if as_json:
        click.echo(json.dumps({"model": str(model)} | report, ensure_ascii=False))
    else:
        for line in lines_of(report):
            click.echo(line)
    if not report["agree"]:
        sys.exit(1)


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The report for people."""
    lines = [
        f"{report['runner']} here with {report['rival']}: {report['tokens']:,} tokens of {len(report['texts'])} texts",
        "",
    ]
    rows = [
        ("log-probability, mean difference", _nats(report["mean_abs_dlogprob"])),
        ("log-probability, largest difference", f"{_nats(report['max_abs_dlogprob'])} (allowed: {report['tolerance']:g})"),
        ("KL divergence, mean", _nats(report["mean_kl"])),
        ("same most probable token", _share(report["top1_agreement"])),
        ("same token ids", _yes(report["ids_equal"])),
        ("same chat text", _yes(report["chat_equal"])),
    ]  # fmt: skip
    lines += [f"  {name:<36} {value}" for name, value in rows]
    differing = [row["text"] for row in report["texts"] if row["ids_equal"] is False]
    lines += [f"  other ids: {text!r}" for text in differing]
    return [
        *lines,
        "",
        "They agree." if report["agree"] else "They disagree: " + "; ".join(report["complaints"]) + ".",
    ]


def _nats(value: float | None) -> str:
    return "not told" if value is None else f"{value:.2e} nats"


def _share(value: float | None) -> str:
    return "not told" if value is None else f"{100 * value:.2f} %"


def _yes(value: bool | None) -> str:
    return "not compared" if value is None else "yes" if value else "NO"
