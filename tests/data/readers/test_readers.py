"""The table of readers: formats by ending, options by name, files of folders and patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from arriero.data.readers import READERS, format_of, reader_class, reader_for, resolve_format
from arriero.data.readers.lines import JsonLinesReader, TextReader
from arriero.data.records import Limits
from arriero.errors import ArrieroError


@pytest.mark.parametrize("format", READERS)
def test_every_reader_loads_and_keeps_the_protocol(format: str) -> None:
    found = reader_class(format)
    assert callable(found.splits)
    assert callable(found.read)
    found()  # all options have defaults


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jsonl", "jsonl"), ("A.JSONL.GZ", "jsonl"), ("a.txt.zst", "text"), ("a.parquet", "parquet"),
        ("CC-MAIN-0.warc.gz", "warc"), ("CC-MAIN-0.warc.wet.gz", "wet"), ("a.htm", "html"), ("a.tar.zst", "archive"),
        ("a.tgz", "archive"), ("a.bin", None), ("gz", None),
    ],
)  # fmt: skip
def test_formats_by_ending(name: str, format: str | None) -> None:
    assert format_of(Path(name)) == format
    if format is None:
        with pytest.raises(ArrieroError, match="does not say its format; set format to one of jsonl, text"):
            resolve_format(Path(name))


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ArrieroError, match="no format 'jsnl'; did you mean 'jsonl'"):
        reader_for(Path("a"), "jsnl")


def test_a_reader_takes_the_options_it_names(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\nb")
    reader = reader_for(path, options={"split": "line", "text_field": "q", "unknown": 1})
    assert isinstance(reader, TextReader)
    assert [item.offset for item in reader.read(path, 0, None, Limits())] == [0, 2]
    assert isinstance(reader_for(path, "jsonl", {"split": "line", "text_field": "q"}), JsonLinesReader)
