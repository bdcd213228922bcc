"""Settings from plain values: pydantic's complaints turned into one clear line each."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from arriero.errors import ArrieroError, did_you_mean, nearest

M = TypeVar("M", bound=BaseModel)
Loc = tuple[str | int, ...]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that an annotation mentions (through lists, unions, mappings)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (list, tuple, dict, typing.Union, types.UnionType, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def known_keys(model: type[BaseModel], loc: Loc) -> set[str]:
    """Keys that are right at ``loc`` inside ``model``."""
    models = [model]
    for part in loc:
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        models = [inner for field in fields for inner in _models_in(field.annotation)] if fields else models
    return {name for m in models for name in m.model_fields}


def _describe(model: type[BaseModel], loc: Loc) -> str:
    """The field's own help, for the message about a missing one."""
    models = [model]
    help_text = ""
    for part in loc:
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        if fields:
            help_text = fields[0].description or ""
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return help_text


def _dotted(loc: Loc) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def _message(model: type[BaseModel], error: Mapping[str, Any]) -> str:
    loc: Loc = tuple(
        part
        for part in error["loc"]
        if isinstance(part, int) or not part.startswith(("function-", "list[", "tagged-"))
    )
    name, kind = _dotted(loc), error["type"]
    if kind == "extra_forbidden":
        return f"unknown key '{loc[-1]}'{did_you_mean(str(loc[-1]), known_keys(model, loc[:-1]))}"
    if kind == "missing":
        description = _describe(model, loc)
        return f"'{name}' is missing" + (f": {description}" if description else "")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    given = error.get("input")
    shown = (
        f", not {given!r}" if isinstance(given, str | int | float | bool) and kind != "value_error" else ""
    )
    return f"'{name}': {message}{shown}" if name else message


def _meant(model: type[BaseModel], error: Mapping[str, Any]) -> Loc:
    """Where the key that was misspelt should have stood."""
    *parent, key = error["loc"]
    return (*parent, nearest(str(key), known_keys(model, tuple(parent))) or "")


def validate(
    model: type[M], value: Any, *, base: Path, fail: Callable[[Loc, str], ArrieroError]
) -> M:  # fmt: skip
    """``value`` as ``model``; ``fail`` makes the error from the place inside the value and the message.

    Raises:
        ArrieroError: what ``fail`` made, with one line per complaint.
    """
    try:
        return model.model_validate(value, context={"base": base})
    except ValidationError as error:
        complaints = error.errors(include_url=False)
        meant = {_meant(model, item) for item in complaints if item["type"] == "extra_forbidden"}
        failures = [
            fail(tuple(item["loc"]), _message(model, item))
            for item in complaints
            if not (item["type"] == "missing" and tuple(item["loc"]) in meant)  # it is there, only misspelt
        ]
        raise ArrieroError("\n".join(dict.fromkeys(str(failure) for failure in failures))) from None
