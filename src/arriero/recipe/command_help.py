"""`--help` of a stage's command: the options, and below them the keys of every block that an option takes."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


class BlockCommand(click.Command):
    """A command some of whose options take blocks of settings."""

    def __init__(self, *args: Any, blocks: Sequence[tuple[str, type[BaseModel]]] = (), **more: Any) -> None:
        """``blocks``: (option, what it takes), in order."""
        super().__init__(*args, **more)
        self._blocks = blocks

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, then a section for each block."""
        super().format_options(ctx, formatter)
        for option, block in self._blocks:
            with formatter.section(f"Keys of {option}"):
                formatter.write_dl(list(block_rows(block)))


def plain_type(annotation: Any) -> Any:
    """The annotation without ``| None``; a list where more than one type is left."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return plain_type(rest[0]) if len(rest) == 1 else rest
    return annotation


def block_of(annotation: Any) -> type[BaseModel] | None:
    """The settings class that an option takes, once or repeated; None for anything else."""
    kind = plain_type(annotation)
    if typing.get_origin(kind) is list:
        kind = plain_type(typing.get_args(kind)[0])
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def block_rows(block: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, what it does and its default); keys of blocks inside have the outer one's name before a dot."""
    for name, field in block.model_fields.items():
        yield f"{prefix}{name}", (field.description or "") + shown_default(field)
        inner = block_of(field.annotation)
        if inner is not None:
            yield from block_rows(inner, f"{prefix}{name}.")


def shown_default(field: FieldInfo) -> str:
    """``  [default: ...]``, or ``  [required]``, or nothing where there is nothing to tell."""
    if field.is_required():
        return "  [required]"
    default = field.get_default(call_default_factory=True)
    if (
        default is PydanticUndefined
        or default is None
        or default in ([], "", {}, "preset")
        or isinstance(default, BaseModel)
    ):
        return ""
    if isinstance(default, bool):
        default = str(default).lower()
    return f"  [default: {default}]"
