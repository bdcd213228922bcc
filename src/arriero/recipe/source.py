"""YAML that remembers on which line every value stood."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from arriero.errors import ArrieroError

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """A parsed YAML file: plain Python values, and the line of each key and item."""

    path: Path
    value: Any
    lines: dict[Loc, int]

    def line(self, loc: Loc) -> int:
        """Line of the value at ``loc``, or of the nearest enclosing value that has one."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)

    def error(self, loc: Loc, message: str) -> ArrieroError:
        """An error that names the file and the line of ``loc``."""
        return ArrieroError(f"{self.path}:{self.line(loc)}: {message}")


def _walk(node: yaml.Node, loc: Loc, path: Path) -> Iterator[tuple[Loc, int]]:
    yield loc, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                raise ArrieroError(f"{path}:{line}: a key must be a plain word")
            if name in seen and name != "<<":
                what = "two stages are named" if loc == ("stages",) else "the key appears twice:"
                raise ArrieroError(f"{path}:{line}: {what} '{name}' (first on line {seen[name]})")
            seen[name] = line
            yield from _walk(value, (*loc, name), path)
            yield (*loc, name), line
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*loc, index), path)


def read_yaml(path: Path) -> Source:
    """Parse a YAML file of plain values (no tags, no code).

    Raises:
        ArrieroError: not there, not UTF-8, not YAML, or a key appears twice in one mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArrieroError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ArrieroError(f"{path} is a folder, not a recipe") from None
    except UnicodeDecodeError as error:
        raise ArrieroError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: Path) -> Source:
    """:func:`read_yaml` of a text; ``path`` is only named in errors."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = dict(_walk(node, (), path)) if node is not None else {}
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ArrieroError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ArrieroError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    return Source(path, value, lines)
