"""`arriero data classifier | blocklist | pairs`: what curation and training use, made from files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from arriero.errors import ArrieroError, did_you_mean

_PATH = click.Path(path_type=Path)
_OUT = click.option("--out", metavar="FILE", type=_PATH, required=True, help="File to write.")
_SETS = click.option(
    "--set",
    "sets",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another setting than the default (repeatable).",
)
M = TypeVar("M", bound=BaseModel)


@click.command()
@click.option(
    "--positive",
    metavar="PATH",
    type=_PATH,
    multiple=True,
    required=True,
    help="Texts of the wanted kind (repeatable).",
)
@click.option(
    "--negative", metavar="PATH", type=_PATH, multiple=True, required=True, help="Other texts (repeatable)."
)
@_OUT
@_SETS
def classifier(
    positive: tuple[Path, ...], negative: tuple[Path, ...], out: Path, sets: tuple[str, ...]
) -> None:
    """Train the linear classifier that tells two kinds of texts apart; prints its card.

    Files of texts (.txt, .jsonl, also .gz and .zst) or folders of them. A recipe takes the result as
    `classifiers: [{name: quality, path: FILE}]`. Settings: bits, characters, epochs, rate, most_texts, seed.
    """
    from arriero.data.filters import TrainingSettings, train_classifier

    card = train_classifier(list(positive), list(negative), out, settings_of(TrainingSettings, sets))
    click.echo(json.dumps(card, indent=2, ensure_ascii=False))


@click.command()
@click.argument("files", metavar="LIST...", nargs=-1, required=True, type=_PATH)
@_OUT
def blocklist(files: tuple[Path, ...], out: Path) -> None:
    """Hash lists of domains and addresses (text, one a line) into a .npy that all workers share.

    A recipe takes the result as `url_lists: [{name: blocked, path: FILE}]`; text lists work too, larger ones slower.
    """
    from arriero.data.filters import build_url_list

    if out.suffix != ".npy":
        raise ArrieroError(f"--out should end in .npy, not '{out.name}'")
    click.echo(f"{out}: {build_url_list(list(files), out):,} entries")


@click.command()
@click.argument("dump", metavar="POSTS.xml", type=_PATH)
@_OUT
@click.option("--answers", is_flag=True, help="Questions with their best answers instead of preferences.")
@_SETS
def pairs(dump: Path, out: Path, answers: bool, sets: tuple[str, ...]) -> None:
    """Preference pairs (prompt, chosen, rejected) from a Stack Exchange dump, by the answers' scores, as JSONL.

    `arriero dpo` trains on them; with --answers: prompt and response, for `arriero sft`.
    """
    from arriero.data.stackexchange.pairs import PairSettings, write_preferences, write_question_answers

    write = write_question_answers if answers else write_preferences
    click.echo(json.dumps(asdict(write(dump, out, settings_of(PairSettings, sets)))))


COMMANDS: Iterable[click.Command] = (classifier, blocklist, pairs)


def settings_of(model: type[M], sets: Iterable[str]) -> M:
    """Settings from ``name=value``.

    Raises:
        ArrieroError: there is no such setting, or the value does not fit.
    """
    import yaml

    given: dict[str, Any] = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise ArrieroError(f"--set '{text}' should be NAME=VALUE")
        if name not in model.model_fields:
            raise ArrieroError(f"there is no setting '{name}'{did_you_mean(name, model.model_fields)}")
        given[name] = yaml.safe_load(value)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArrieroError(f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
