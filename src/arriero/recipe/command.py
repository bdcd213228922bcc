"""Commands made from the stage registry: a stage's settings class is its command line."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from arriero.artifacts import InputPath
from arriero.recipe.command_help import block_of, plain_type, shown_default
from arriero.stage import Stage, get_stage


def _metavar(annotation: Any) -> str:
    kind = plain_type(annotation)
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(str(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return _metavar(typing.get_args(kind)[0])
    if isinstance(kind, type):
        if issubclass(kind, BaseModel):
            return "{key: value, …}"
        names = {int: "INT", float: "NUMBER", str: "TEXT", InputPath: "FILE", bool: "BOOL"}
        return names.get(kind, "VALUE")
    return "VALUE"


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(plain_type(annotation)) is list


def _help(field: FieldInfo) -> str:
    below = "  (keys: below)" if block_of(field.annotation) else ""
    return f"{field.description or ''}{shown_default(field)}{below}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def setting_options(settings: type[BaseModel]) -> list[click.Option]:
    """One option per setting; lists are given by repeating the option, mappings as YAML in braces.

    A setting that is true or false may stand without a value: ``--profile`` is ``--profile true``.
    """
    return [
        click.Option(
            [_flag(name), f"setting_{name}"], metavar=_metavar(field.annotation), help=_help(field),
            multiple=_is_list(field.annotation), default=None, required=False, **_valueless(field),
        )
        for name, field in settings.model_fields.items()
    ]  # fmt: skip


def _valueless(field: FieldInfo) -> dict[str, Any]:
    if plain_type(field.annotation) is not bool:
        return {}
    return {"is_flag": False, "flag_value": "true"}


def input_options(stage: Stage[Any]) -> list[click.Option]:
    """One option per input artifact."""
    return [
        click.Option(
            [_flag(role), f"input_{role}"], metavar="DIR", type=click.Path(path_type=Path), multiple=True,
            help=spec.help + ("" if spec.optional else "  [required]") + ("  (repeatable)" if spec.many else ""),
        )
        for role, spec in stage.inputs.items()
    ]  # fmt: skip


def _parse(annotation: Any, text: str) -> Any:
    """A value from the command line: text stays text, everything else is read as YAML."""
    kind = plain_type(annotation)
    if _is_list(annotation):
        kind = plain_type(typing.get_args(kind)[0])
    if kind is str or kind is InputPath:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def given_settings(settings: type[BaseModel], params: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line, as plain values."""
    values: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        given = params.get(f"setting_{name}")
        if given is None or given == ():
            continue
        if isinstance(given, tuple):
            values[name] = [_parse(field.annotation, item) for item in given]
        else:
            values[name] = _parse(field.annotation, given)
    return values


def given_inputs(stage: Stage[Any], params: dict[str, Any]) -> dict[str, list[Path]]:
    """The input folders that were given on the command line, by role."""
    return {role: list(params.get(f"input_{role}") or ()) for role in stage.inputs}


def setting_blocks(settings: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    """(option, settings class) of every option that takes a block."""
    found = ((name, block_of(field.annotation)) for name, field in settings.model_fields.items())
    return [(_flag(name), block) for name, block in found if block is not None]


def stage_params(kind: str) -> tuple[Stage[Any], list[click.Parameter]]:
    """The stage and the parameters of its command."""
    stage = get_stage(kind)
    return stage, [*input_options(stage), *setting_options(stage.Settings)]
