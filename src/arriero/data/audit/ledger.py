"""Writing and reading ledgers: Parquet, in batches, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from arriero.artifacts.commit import PARTIAL, fsync_path
from arriero.data.audit.arrays import to_array
from arriero.data.audit.schema import BASE
from arriero.errors import ArrieroError, DamagedArtifactError

LEDGER_FILE = "ledger.parquet"
PARTS, DECISIONS_FOLDER, LINE_EDITS_FOLDER = "parts", "decisions", "line_edits"
ROWS = 4096
"""Rows of a row group: what a writer and a reader hold at a time."""
COMPRESSION = "zstd"
_FILL: dict[str, Any] = {"in_content": False, "near_miss": False, "stage": "", "reason": ""}
"""What a column that may not be null has where a row does not name it."""


class TableWriter:
    """A Parquet file of one schema, row by row. It appears on :meth:`close`, whole; equal rows give equal bytes.

    As a context manager it closes at the end of the body, and leaves nothing when the body fails.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = Path(path), schema
        self._names = frozenset(schema.names)
        self._rows: list[Mapping[str, Any]] = []
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}{PARTIAL}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: pq.ParquetWriter | None = pq.ParquetWriter(self._partial, schema, compression=COMPRESSION)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; columns that it does not name are null.

        Raises:
            KeyError: the row names a column that the schema has not.
        """
        if not row.keys() <= self._names:
            raise KeyError(f"no column {sorted(row.keys() - self._names)} in {self.path.name}")
        self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._flush()

    def close(self) -> None:
        """Write the rest and make the file appear."""
        assert self._file is not None, "closed twice"
        self._flush()
        self._file.close()
        self._file = None
        fsync_path(self._partial)
        self._partial.replace(self.path)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        if self._file is not None:
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def _flush(self) -> None:
        assert self._file is not None
        if self._rows:
            self._file.write_batch(record_batch(self._rows, self.schema))
            self._rows = []


def record_batch(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows as one batch.

    Raises:
        ArrieroError: a value does not fit its column (names the column).
    """
    columns = []
    for field in schema:
        fill = _FILL.get(field.name) if not field.nullable else None
        try:
            columns.append(to_array([row.get(field.name, fill) for row in rows], field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
            raise ArrieroError(f"column {field.name}: {str(error).splitlines()[0]}") from None
    return pa.record_batch(columns, schema=schema)


def write_table(path: Path, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> None:
    """A whole file at once."""
    with TableWriter(path, schema) as writer:
        for row in rows:
            writer.add(row)


def write_batches(path: Path, table: pa.Table) -> None:
    """A ledger that was read, in the bytes that :class:`TableWriter` would have written for its rows."""
    given = {field.name: field for field in BASE}  # Parquet gives lists' elements another name
    table = table.cast(pa.schema([given.get(f.name, f) for f in table.schema], table.schema.metadata))
    with pq.ParquetWriter(path, table.schema, compression=COMPRESSION) as writer:
        for start in range(0, table.num_rows, ROWS):
            writer.write_table(table.slice(start, ROWS).combine_chunks())


def open_table(path: Path) -> pq.ParquetFile:
    """A Parquet file of a corpus; nothing but its footer is read yet.

    Raises:
        DamagedArtifactError: it is missing or damaged.
    """
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DamagedArtifactError(f"{path} is missing; make the corpus anew") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedArtifactError(
            f"{path} is damaged ({str(error).splitlines()[0]}); make the corpus anew"
        ) from None


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file as dictionaries, a row group at a time."""
    file = open_table(path)
    for batch in file.iter_batches(batch_size=ROWS, columns=list(columns) if columns is not None else None):
        yield from batch.to_pylist()
