"""Books: one record a file."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from arriero.data.readers.books import BookReader
from arriero.data.records import Limits, Record, Refused


def read(path: Path, limits: Limits | None = None) -> Record | Refused:
    (item,) = BookReader().read(path, 0, None, limits or Limits())
    return item


def test_a_book_plain_and_packed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"text"))
    plain, packed = read(tmp_path / "a.txt"), read(tmp_path / "a.txt.gz")
    assert isinstance(plain, Record) and isinstance(packed, Record)
    assert plain.content == packed.content == b"text" and (plain.in_content, packed.in_content) == (
        False,
        True,
    )
    assert BookReader().splits(tmp_path / "a.txt", 1) == [(0, None)]
    assert list(BookReader().read(tmp_path / "a.txt", 2, None, Limits())) == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b" \n", "read.empty"),
        ("a.txt", b"x" * 2000, "read.record_bytes"),
        ("a.txt.gz", gzip.compress(b"text" * 100, mtime=0)[:-9], "read.damaged"),
        ("a.txt.gz", b"no gzip", "read.damaged"),
        ("a.txt.xz", b"no xz", "read.damaged"),
        ("a.txt.zst", b"no zstd", "read.damaged"),
    ],
)
def test_refusals(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    item = read(tmp_path / name, Limits(record_bytes=1000))
    assert isinstance(item, Refused) and item.reason == reason
