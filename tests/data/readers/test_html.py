"""Files that are one page each."""

from __future__ import annotations

import gzip
from pathlib import Path

from arriero.data.readers.html import HtmlFileReader
from arriero.data.records import Limits, Record, Refused


def test_a_file_is_a_page(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    for data in (b"<html>x", gzip.compress(b"<html>x")):
        path.write_bytes(data)
        assert HtmlFileReader().splits(path, 2) == [(0, None)]
        (found,) = HtmlFileReader().read(path, 0, None, Limits())
        assert found == Record("a.html:0", b"<html>x", "text/html", 0, len(data))


def test_large_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    for data, reason in (
        (b"x" * 2000, "read.too_large"),
        (gzip.compress(bytes(10_000)), "read.too_large"),
        (gzip.compress(b"<html>x")[:-3], "read.truncated"),
        (gzip.compress(b"<html>x")[:-8] + bytes(8), "read.gzip"),
    ):
        path.write_bytes(data)
        (found,) = HtmlFileReader().read(path, 0, None, Limits(record_bytes=1000, expansion=2))
        assert isinstance(found, Refused)
        assert found.reason == reason
