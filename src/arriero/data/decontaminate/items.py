"""Items of benchmark files: JSON lines, JSON, CSV, TSV or plain text, compressed or not."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arriero.data.decontaminate.settings import Benchmark
from arriero.data.files import iter_lines, open_bytes
from arriero.data.jsonl import iter_records
from arriero.errors import ArrieroError

_ID_FIELDS = ("id", "task_id", "item_id", "question_id", "qid")
_COMPRESSED = (".gz", ".zst")


@dataclass(frozen=True)
class Item:
    """One item: its benchmark, its name there (its own id, or its number from 0), its text."""

    benchmark: str
    name: str
    text: str


def read_items(benchmark: Benchmark) -> Iterator[Item]:
    """The items of a benchmark file, in order.

    Raises:
        ArrieroError: the file cannot be read, or an item has none of the fields.
    """
    path = Path(benchmark.path)
    ending = (path.with_suffix("") if path.suffix in _COMPRESSED else path).suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        records: Iterator[Any] = (record for _, record in iter_records(path))
    elif ending == ".json":
        records = _json_items(path)
    elif ending in (".csv", ".tsv"):
        records = _table(path, "\t" if ending == ".tsv" else ",")
    else:
        yield from _plain(benchmark, path)
        return
    for number, record in enumerate(records):
        text = " ".join(_texts(record, benchmark, path, number))
        yield Item(benchmark.name, str(_name(record, number)), text)


def _plain(benchmark: Benchmark, path: Path) -> Iterator[Item]:
    if benchmark.fields:
        raise ArrieroError(f"{path} is plain text and has no fields; leave out fields: {benchmark.fields}")
    lines = (line.data.decode("utf-8", "replace").strip() for line in iter_lines(path))
    for number, line in enumerate(lines):
        if line:
            yield Item(benchmark.name, str(number), line)


def _json_items(path: Path) -> Iterator[Any]:
    with open_bytes(path) as file:
        try:
            found = json.loads(file.read())
        except ValueError as error:
            raise ArrieroError(f"{path} is not valid JSON: {error}") from None
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list)]
        found = lists[0] if len(lists) == 1 else [found]
    yield from found


def _table(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    lines = (line.data.decode("utf-8", "replace") + "\n" for line in iter_lines(path))
    try:
        yield from csv.DictReader(lines, delimiter=delimiter)
    except csv.Error as error:
        raise ArrieroError(f"{path} is no table: {error}") from None


def _name(record: Any, number: int) -> Any:
    if isinstance(record, dict):
        for field in _ID_FIELDS:
            if isinstance(record.get(field), str | int):
                return record[field]
    return number


def _texts(record: Any, benchmark: Benchmark, path: Path, number: int) -> Iterator[str]:
    if not benchmark.fields:
        ids = _ID_FIELDS if isinstance(record, dict) else ()
        yield from _strings(
            {key: value for key, value in record.items() if key not in ids} if ids else record
        )
        return
    for field in benchmark.fields:
        value = record
        for key in field.split("."):
            if not isinstance(value, dict) or key not in value:
                known = ", ".join(map(str, record)) if isinstance(record, dict) else type(record).__name__
                raise ArrieroError(f"{path} item {number} has no field '{field}'; it has: {known}")
            value = value[key]
        yield from _strings(value)


def _strings(value: Any) -> Iterator[str]:
    """All texts in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
