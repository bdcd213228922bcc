"""Settings that name files from outside the run: resolved against the recipe, counted by content."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from arriero.errors import ArrieroError

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


class InputTree(InputPath):
    """A setting that names one raw input file, or a folder or pattern (``*``, ``**``) of many.

    The stage's key holds the content hashes of all files with their names below the folder.
    """

    def files(self) -> list[tuple[str, InputPath]]:
        """(name below the folder, file), by name; hidden files and symbolic links are left out of folders.

        Raises:
            ArrieroError: there is no such file, or no file in the folder or pattern.
        """
        if self.is_file():
            return [(self.name, InputPath(self))]
        base, patterns = self._base_and_patterns()
        if not base.is_dir():
            raise ArrieroError(f"{self}: no such file or folder")
        names = ((path.relative_to(base), path) for path in _below(base))
        found = sorted(
            (name.as_posix(), InputPath(path)) for name, path in names if _fits(name.parts, patterns)
        )
        if not found:
            raise ArrieroError(f"{self} holds no file")
        return found

    def base(self) -> Path:
        """The folder below which the names of :meth:`files` count."""
        return Path(self).parent if self.is_file() else self._base_and_patterns()[0]

    def _base_and_patterns(self) -> tuple[Path, tuple[str, ...]]:
        parts = Path(self).parts
        first = next((n for n, part in enumerate(parts) if set(part) & set("*?[")), None)
        if first is None:
            return Path(self), ("**", "*")
        return Path(*parts[:first]), parts[first:]


def _fits(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_fits(names[skipped:], patterns[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def _below(folder: Path) -> Iterator[Path]:
    """Files below a folder; hidden ones and symbolic links are passed over."""
    for entry in folder.iterdir():
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _below(entry)
        elif entry.is_file():
            yield entry


def raw_files(value: Any) -> Iterator[InputPath]:
    """Every raw input file named anywhere inside a settings object."""
    if isinstance(value, InputTree):
        for _, path in value.files():
            yield path
    elif isinstance(value, InputPath):
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
