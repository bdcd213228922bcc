"""Parquet: rows by row groups, each once for any cut; bad rows, lying and damaged files are reasons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.readers.parquet import ParquetReader
from arriero.data.records import Limits, Record, Refused

LIMITS = Limits(record_bytes=1 << 16)


def read(path: Path, cuts: Sequence[int] = (), **options: Any) -> list[Record | Refused]:
    edges: list[int | None] = [0, *sorted(cuts), None]
    pairs = [(start or 0, end) for start, end in itertools.pairwise(edges)]
    return [item for start, end in pairs for item in ParquetReader(**options).read(path, start, end, LIMITS)]


def table(path: Path, count: int = 1000, **columns: Any) -> Path:
    texts = [f"text {number} " + "x" * (number % 90) for number in range(count)]
    pq.write_table(pa.table({"text": texts, "n": list(range(count)), **columns}), path, row_group_size=100)
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_rows_are_read_once_for_any_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = table(tmp_path_factory.mktemp("p") / "a.parquet", 400)
    found = read(path)
    assert [item.offset for item in found] == list(range(400))
    assert [item.content.split()[1] for item in found if isinstance(item, Record)] == [
        str(n) for n in range(400)
    ]  # type: ignore[arg-type]
    cuts = data.draw(st.lists(st.integers(1, path.stat().st_size), max_size=5, unique=True))
    assert read(path, cuts) == found


def test_splits_lie_at_row_groups(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet")
    splits = ParquetReader().splits(path, 1)
    assert len(splits) == 10
    found = [item for start, end in splits for item in ParquetReader().read(path, start, end, LIMITS)]
    assert found == read(path)
    assert ParquetReader().splits(path, 1 << 30) == [(0, None)]


def test_fields_and_templates(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", 2, url=["http://a", None], license=["MIT", "CC0-1.0"])
    first, second = read(path)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.url, first.license, second.url, second.license) == ("http://a", "MIT", None, "CC0-1.0")
    (found, _) = read(path, template="{text}!", content_type="text/html")
    assert isinstance(found, Record)
    assert (found.content, found.content_type) == ("text 0 !", "text/html")


def test_bad_rows_are_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    bad = pa.array([b"good", b"\xff", b"n\0l", b"x" * (1 << 17), b"last"]).cast(pa.binary())
    strings = pa.Array.from_buffers(pa.string(), 5, bad.buffers())
    pq.write_table(pa.table({"text": strings}), path)
    found = read(path)
    assert [item.content if isinstance(item, Record) else item.reason for item in found] == [
        "good", "read.utf8", "read.nul", "read.too_large", "last",
    ]  # fmt: skip
    (item,) = read(table(tmp_path / "b.parquet", 1), text_field="txt")
    assert isinstance(item, Refused)
    assert (item.reason, "did you mean" in item.detail) == ("read.field", True)
    (item,) = read(table(tmp_path / "b.parquet", 1), text_field="n")
    assert isinstance(item, Refused)
    assert "should be a string, not int" in item.detail


def test_a_long_value_for_many_rows_does_not_fill_memory(tmp_path: Path) -> None:
    """A dictionary of one value of 60 kB stands for 100,000 rows: 6 GB if they were all made."""
    path = tmp_path / "a.parquet"
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 60_000]))
    pq.write_table(pa.table({"text": values}), path)
    before = pa.default_memory_pool().max_memory()
    count = sum(1 for _ in itertools.islice(ParquetReader().read(path, 0, None, LIMITS), 5000))
    assert count == 5000
    assert pa.default_memory_pool().max_memory() - before < 64 << 20


def test_what_is_no_parquet_file_is_one_reason(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet")
    raw = path.read_bytes()
    for data in (b"", b"PAR1", raw[:-50], raw[: len(raw) // 2], b"x" * 100):
        path.write_bytes(data)
        assert ParquetReader().splits(path, 10) == [(0, None)]
        assert [item.reason for item in read(path, [2]) if isinstance(item, Refused)] == ["read.parquet"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_flipped_bytes_never_raise_and_other_row_groups_survive(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = table(tmp_path_factory.mktemp("p") / "a.parquet", 300)
    raw = bytearray(path.read_bytes())
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    hit = data.draw(st.integers(4, footer - 1))
    raw[hit] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(raw))
    found = read(path)
    good = {item.offset for item in found if isinstance(item, Record)}
    assert sum(set(range(start, start + 100)) <= good for start in (0, 100, 200)) >= 2
    starts = [start for start, _ in ParquetReader().splits(path, 1)]
    assert read(path, starts[1:]) == found
