"""Settings that name files from outside the run: resolved against the recipe, counted by content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    _PathBase = Path
else:
    _PathBase = type(Path())  # before Python 3.12 only the concrete class of the system can be derived from


class InputPath(_PathBase):
    """The type of a setting that names a raw input file.

    Relative paths count from the recipe's folder (on the command line: from where one stands), and a
    stage's key holds the file's content hash in place of its path.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._resolve, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _resolve(cls, value: Any, info: ValidationInfo) -> InputPath:
        if not isinstance(value, str | Path) or not str(value):
            raise ValueError("should be the path of a file")
        base = (info.context or {}).get("base", Path.cwd())
        return cls(Path(base) / Path(value).expanduser())


def raw_files(value: Any) -> Iterator[InputPath]:
    """Every raw input file named anywhere inside a settings object."""
    if isinstance(value, InputPath):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from raw_files(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from raw_files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from raw_files(item)
