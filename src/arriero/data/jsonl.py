"""JSON lines: one object a line, plain or compressed."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from arriero.data.files import Line, iter_lines
from arriero.errors import ArrieroError


class NotUnicodeError(ArrieroError):
    """A text is not UTF-8, or holds half of a surrogate pair."""


def parse_line(path: Path, line: Line) -> dict[str, Any] | None:
    """The object on a line; None for a blank line.

    Raises:
        NotUnicodeError: not UTF-8.
        ArrieroError: not JSON, or not an object. Both name file and line.
    """
    if not line.data.strip():
        return None
    try:
        record = json.loads(line.data.decode("utf-8"))
    except UnicodeDecodeError as error:
        where = f"{path} line {line.number}"
        raise NotUnicodeError(f"{where} is not UTF-8 (byte {line.offset + error.start})") from None
    except (json.JSONDecodeError, RecursionError) as error:
        reason = (
            f"{error.msg} at column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "nested too deep"
        )
        raise ArrieroError(f"{path} line {line.number} is not valid JSON: {reason}") from None
    if not isinstance(record, dict):
        raise ArrieroError(f"{path} line {line.number} should be a JSON object, not {type(record).__name__}")
    return record


def iter_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank."""
    for line in iter_lines(path):
        record = parse_line(path, line)
        if record is not None:
            yield line.number, record


@contextmanager
def open_writer(path: Path, level: int = 6) -> Iterator[IO[str]]:
    """Write text to a gzip file whose bytes depend on the text alone (no time, no name in its header).

    ``level``: 1 (fast) to 9 (small).
    """
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=level) as packed,
        io.TextIOWrapper(io.BufferedWriter(packed, 1 << 20), encoding="utf-8", newline="\n") as text,
    ):
        yield text


def write_record(file: IO[str], record: Mapping[str, Any]) -> None:
    """Append one object as a line."""
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
