"""JSON lines and plain text, each also .gz and .zst: one record a line, or as the setting ``split`` cuts the text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from arriero.data.readers.fields import Fields
from arriero.data.readers.line_scan import ScannedLine, byte_splits, compressed, scan_lines
from arriero.data.readers.sources import FileSource, Problem, refusal
from arriero.data.readers.text_groups import Group, blank_lines_before, group_lines
from arriero.data.records import Limits, Record, Refused
from arriero.data.textsplit import split_text_problem
from arriero.errors import ArrieroError

_BOM = b"\xef\xbb\xbf"


class JsonLinesReader:
    """One JSON object a line; blank lines are passed over.

    ``text_field``: the key that holds the text; ``template``: text made of several keys. ``content_type``: what the text
    is, text/html where whole pages lie in JSON. ``on_bad_utf8``: with ``error`` a text that is not Unicode ends the run.

    Raises:
        ArrieroError: the template is none.
    """

    def __init__(
        self, text_field: str = "text", template: str | None = None, content_type: str = "text/plain",
        on_bad_utf8: str = "drop",
    ) -> None:  # fmt: skip
        self._fields = Fields(text_field, template)
        self._type = content_type
        self._strict = on_bad_utf8 == "error"

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        return byte_splits(path, split_bytes)

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        with FileSource(path) as source:
            packed = compressed(source)
            for line in scan_lines(source, start, end, limits):
                where = (line.offset, line.length, packed)
                id = f"{path.name}:{line.offset}"
                data = line.data.removeprefix(_BOM) if line.offset == 0 else line.data
                found = line.problem or (parse_object(data) if data.strip() else None)
                if found is None:
                    continue
                text = found if isinstance(found, Problem) else self._fields.text(found)
                if isinstance(text, Problem):
                    self._stop(path, line, text)
                    yield refusal(id, text, where)
                else:
                    assert isinstance(found, Mapping)
                    yield self._fields.record(id, text, self._type, found, where)

    def _stop(self, path: Path, line: ScannedLine, problem: Problem) -> None:
        if self._strict and problem.reason in ("read.utf8", "read.surrogate"):
            raise ArrieroError(
                f"{path}, line at byte {line.offset}: {problem.detail}; convert the file, or set on_bad_utf8: drop"
            )


def parse_object(data: bytes) -> Mapping[str, Any] | Problem:
    """The JSON object on a line."""
    fast = _fast_json()
    try:
        value = fast(data)
    except ValueError:
        # The fast parser refuses NaN and halves of surrogate pairs, and this one says what is wrong.
        try:
            value = json.loads(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            return Problem("read.utf8", f"the line is not UTF-8 (its byte {error.start})")
        except json.JSONDecodeError as error:
            return Problem("read.json", f"not valid JSON: {error.msg} at column {error.colno}")
        except RecursionError:
            return Problem("read.json", "not valid JSON: nested too deep")
        except ValueError as error:  # a number of thousands of digits
            return Problem("read.json", f"not valid JSON: {error}")
    if not isinstance(value, dict):
        return Problem("read.json", f"should be a JSON object, not {type(value).__name__}")
    return value


def _fast_json() -> Any:
    try:
        import orjson  # of the extra [data]; without it the standard library gives the same
    except ImportError:
        return json.loads
    return orjson.loads


class TextReader:
    """Plain text. ``split``: file, line, blank_lines:N or marker:TEXT, as :func:`arriero.data.textsplit.split_text`.

    A document belongs to the byte range in which the line begins that holds its first byte.

    Raises:
        ArrieroError: ``split`` is none of these.
    """

    def __init__(self, split: str = "file", on_bad_utf8: str = "drop") -> None:
        problem = split_text_problem(split)
        if problem:
            raise ArrieroError(problem)
        self._split = split
        self._strict = on_bad_utf8 == "error"

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        with FileSource(path) as source:
            # What lies before a border decides on a document's beginning; compressed, it cannot be looked up.
            whole = self._split == "file" or (self._split.startswith("blank_lines") and compressed(source))
        return [(0, None)] if whole else byte_splits(path, split_bytes)

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        with FileSource(path) as source:
            packed = compressed(source)
            last = None if end is None else self._border(source, end, packed)
            lines = scan_lines(source, start, None, limits)
            blank = (
                blank_lines_before(source, start) if self._split.startswith("blank_lines") and start else 0
            )
            for group in group_lines(lines, self._split, limits.record_bytes, start > 0, blank):
                if last is not None and group.line >= last:
                    return
                found = self._document(path, group, packed)
                if found is not None:
                    yield found

    @staticmethod
    def _border(source: FileSource, end: int, packed: bool) -> int | None:
        """The content's byte at which the next range begins."""
        if not packed:
            return end
        from arriero.data.readers.frames import segments

        return next((piece.content for piece in segments(source) if piece.start >= end), None)

    def _document(self, path: Path, group: Group, packed: bool) -> Record | Refused | None:
        where = (group.offset, group.length, packed)
        id = f"{path.name}:{group.offset}"
        if group.problem is not None:
            return refusal(id, group.problem, where)
        data = group.data.removeprefix(_BOM) if group.offset == 0 else group.data
        if not data.strip():
            return None
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self._strict:
                raise ArrieroError(
                    f"{path} is not UTF-8 (byte {group.offset + error.start});"
                    " convert the file, or set on_bad_utf8: drop"
                ) from None
            return Refused(id, "read.utf8", f"not UTF-8 (byte {error.start} of the document)", *where)
        if "\0" in text:
            return Refused(id, "read.nul", f"{text.count(chr(0))} NUL characters", *where)
        return Record(id, text, "text/plain", *where)
