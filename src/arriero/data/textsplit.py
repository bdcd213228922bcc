"""Cutting a text file into documents."""

from __future__ import annotations

from collections.abc import Iterator

from arriero.data.files import Line


def split_text_problem(split: str) -> str | None:
    """What is wrong with a ``split`` setting, or None."""
    kind, _, argument = split.partition(":")
    if split in ("file", "line") or (kind == "marker" and argument and "\n" not in argument):
        return None
    if kind == "blank_lines" and argument.isascii() and argument.isdigit() and int(argument) >= 1:
        return None
    return f"split should be file, line, blank_lines:N or marker:TEXT, not '{split}'"


def split_text(lines: Iterator[Line], split: str) -> Iterator[list[Line]]:
    """Groups of lines, one a document; documents of blank lines alone are left out.

    ``file``: one document. ``line``: one a line. ``blank_lines:N``: N or more blank lines lie between documents.
    ``marker:TEXT``: TEXT lies between documents, anywhere in a line.
    """
    kind, _, argument = split.partition(":")
    if kind == "line":
        groups: Iterator[list[Line]] = ([line] for line in lines)
    elif kind == "blank_lines":
        groups = _by_blank_lines(lines, int(argument))
    elif kind == "marker":
        groups = _by_marker(lines, argument.encode())
    else:
        groups = iter([list(lines)])
    return (group for group in groups if any(line.data.strip() for line in group))


def _by_blank_lines(lines: Iterator[Line], count: int) -> Iterator[list[Line]]:
    group: list[Line] = []
    blank = 0
    for line in lines:
        if line.data.strip():
            if blank >= count and group:
                yield group
                group = []
            blank = 0
        else:
            blank += 1
        group.append(line)
    yield group


def _by_marker(lines: Iterator[Line], marker: bytes) -> Iterator[list[Line]]:
    group: list[Line] = []
    for line in lines:
        offset = line.offset
        *before, last = line.data.split(marker)
        for part in before:
            group.append(Line(line.number, offset, part))
            yield group
            group = []
            offset += len(part) + len(marker)
        group.append(Line(line.number, offset, last))
    yield group
