"""Parquet files, by row groups. A table's row is a record; it has no bytes of its own, so its place is its row number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arriero.data.files import needs_extra
from arriero.data.readers.fields import Fields
from arriero.data.readers.sources import Problem
from arriero.data.records import Limits, Record, Refused

_KEPT = ("id", "url", "license", "lang", "date")
_ROWS = 256


class ParquetReader:
    """Rows whose text lies in ``text_field``, or is made of several columns by ``template``.

    ``Record.offset`` is the row's number in the file (``in_content``), ``length`` its text's UTF-8 bytes. A row group
    belongs to the byte range in which its first column begins. ``content_type``: what the text is, text/html for pages.

    Raises:
        ArrieroError: the template is none, or pyarrow is not there.
    """

    def __init__(
        self, text_field: str = "text", template: str | None = None, content_type: str = "text/plain"
    ) -> None:
        self._fields = Fields(text_field, template)
        self._type = content_type

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        file = _open(path, [])
        if isinstance(file, Problem):
            return [(0, None)]
        starts = [0]
        with file:
            for number in range(1, file.metadata.num_row_groups):
                first = _first_byte(file.metadata.row_group(number))
                if first >= starts[-1] + split_bytes:
                    starts.append(first)
        return list(zip(starts, [*starts[1:], None], strict=True))

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        file = _open(path, self._fields.names)
        if isinstance(file, Problem):
            if start == 0:
                yield Refused(f"{path.name}:0", *file, 0, path.stat().st_size)
            return
        with file:
            row = 0
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                first = _first_byte(group) if number else 0
                if first >= start and (end is None or first < end):
                    yield from self._group(path, file, number, row, limits)
                row += max(group.num_rows, 0)

    def _group(
        self, path: Path, file: Any, number: int, row: int, limits: Limits
    ) -> Iterator[Record | Refused]:
        group = file.metadata.row_group(number)
        done = 0
        problem = self._fields.missing(file.schema_arrow.names) or _lies(
            file, group, self._fields.names, limits
        )
        if problem is None:
            try:
                for batch in self._batches(file, number):
                    for record in _rows(batch):
                        yield self._record(f"{path.name}:{row + done}", record, row + done, limits)
                        done += 1
            except Exception as error:  # pyarrow's own errors derive from several bases
                problem = Problem("read.parquet", f"row group {number}: {_first_line(error)}")
        if problem is None and done != group.num_rows:
            problem = Problem("read.parquet", f"row group {number} says {group.num_rows} rows and has {done}")
        if problem is not None:
            at = row + done
            yield Refused(f"{path.name}:{at}", *problem, at, max(group.num_rows - done, 0), True)

    def _batches(self, file: Any, number: int) -> Iterator[Any]:
        there = set(file.schema_arrow.names)
        columns = [name for name in dict.fromkeys([*self._fields.names, *_KEPT]) if name in there]
        batches: Iterator[Any] = file.iter_batches(
            batch_size=_ROWS, row_groups=[number], columns=columns, use_threads=False
        )
        return batches

    def _record(self, id: str, record: dict[str, Any], row: int, limits: Limits) -> Record | Refused:
        text = self._fields.text(record)
        if isinstance(text, Problem):
            return Refused(id, *text, row, 0, True)
        size = len(text.encode())
        if size > limits.record_bytes:
            detail = f"a text of {size} bytes, over {limits.record_bytes}"
            return Refused(id, "read.too_large", detail, row, size, True)
        return self._fields.record(id, text, self._type, record, (row, size, True))


def _open(path: Path, texts: list[str]) -> Any:
    """The file, or what is wrong with it. Text columns stay dictionaries of their values, since a dictionary with one
    long value may stand for a million rows."""
    parquet = needs_extra("pyarrow.parquet", path)
    try:
        with parquet.ParquetFile(path) as file:
            metadata = file.metadata
            there = [name for name in texts if name in file.schema_arrow.names]
        return parquet.ParquetFile(path, metadata=metadata, read_dictionary=there, pre_buffer=False)
    except Exception as error:  # pyarrow's own errors derive from several bases
        return Problem("read.parquet", f"no Parquet file: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _first_byte(group: Any) -> int:
    starts = []
    for number in range(group.num_columns):
        column = group.column(number)
        page = column.dictionary_page_offset if column.has_dictionary_page else None
        starts.append(min(page or column.data_page_offset, column.data_page_offset))
    return max(min(starts, default=0), 0)


def _lies(file: Any, group: Any, texts: list[str], limits: Limits) -> Problem | None:
    """A row group whose text is said to be far larger than its bytes on disk is not opened."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema not in (*texts, *_KEPT):
            continue
        packed, size = column.total_compressed_size, column.total_uncompressed_size
        if size > limits.expansion * packed + limits.record_bytes:
            detail = f"column {column.path_in_schema}: {packed} bytes give {size}"
            return Problem("read.expansion", detail)
    return None


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    columns = {name: batch.column(number) for number, name in enumerate(batch.schema.names)}
    for row in range(batch.num_rows):
        yield {name: _value(column, row) for name, column in columns.items()}


def _value(column: Any, row: int) -> Any:
    """A cell; a string that is not UTF-8 is given as bytes."""
    cell = column[row]
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        value = cell.value if hasattr(cell, "dictionary") else cell
        return value.as_buffer().to_pybytes()
