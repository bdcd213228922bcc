from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.data.documents import Document
from arriero.data.files import Line, content_bytes
from arriero.data.jsonl import iter_records, open_writer, write_record
from arriero.data.records import Limits, Record
from arriero.data.source import Source
from arriero.data.textsplit import split_text
from arriero.errors import ArrieroError


def source(path: Path, **settings: Any) -> Source:
    return Source(**{"path": path, "license": "x", **settings})


def contents(one: Source) -> list[str | bytes]:
    return [
        record.content
        for _, path in one.files()
        for record in one.reader(path).read(path, 0, None, Limits())
        if isinstance(record, Record)
    ]


def test_a_source_is_named_after_its_file(tmp_path: Path) -> None:
    assert source(tmp_path / "my pages.warc.gz").name == "my_pages"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"split": "lines"}, "split should be file, line"),
        ({"split": "blank_lines:0"}, "split should be"),
        ({"template": "no keys"}, "should name keys in braces"),
        ({"template": "{0}"}, "should name keys in braces"),
        ({"name": "a b"}, "should match pattern"),
        ({"format": "jsnol"}, "no format 'jsnol'.*did you mean 'jsonl'"),
        ({"options": {"text_fild": 1}}, "format text has no option 'text_fild'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        source(tmp_path / "a.txt", **settings)


def test_an_ending_that_says_nothing_asks_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="does not say its format"):
        source(tmp_path / "a.dat")
    (tmp_path / "a.dat").write_text("hello")
    assert contents(source(tmp_path / "a.dat", format="text")) == ["hello"]


def test_folders_and_patterns_are_read_by_name_without_what_is_hidden_linked_or_unknown(
    tmp_path: Path,
) -> None:
    for name in ("b.txt", "a/c.txt", "a/b.jsonl", ".hidden/d.txt", "a/.e.txt", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "json"}' if name.endswith("jsonl") else name)
    (tmp_path / "link.txt").symlink_to("/etc/hostname")
    (tmp_path / "loop").symlink_to(tmp_path)
    whole = source(tmp_path)
    assert [name for name, _ in whole.files()] == ["a/b.jsonl", "a/c.txt", "b.txt"]
    assert contents(whole) == ["json", "a/c.txt", "b.txt"]
    some = source(tmp_path / "*" / "*.txt")
    assert [name for name, _ in some.files()] == ["a/c.txt"]
    assert some.path.base() == tmp_path
    assert [name for name, _ in source(tmp_path / "**" / "*.txt").files()] == ["a/c.txt", "b.txt"]
    with pytest.raises(ArrieroError, match="holds no file"):
        source(tmp_path / "*.zip", format="text").files()
    with pytest.raises(ArrieroError, match="no such file"):
        source(tmp_path / "no.txt").files()


def test_options_reach_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "<p>x</p>"}\n')
    one = source(tmp_path / "a.jsonl", text_field="body", options={"content_type": "text/html"})
    path = tmp_path / "a.jsonl"
    (record,) = one.reader(path).read(path, 0, None, Limits())
    assert isinstance(record, Record)
    assert (record.content, record.content_type) == ("<p>x</p>", "text/html")


@given(
    st.lists(st.sampled_from(["", " ", "a", "b==", "==", "c"])),
    st.sampled_from(["line", "blank_lines:1", "blank_lines:3", "marker:==", "file"]),
)
def test_cutting_loses_no_text(lines: list[str], split: str) -> None:
    given_lines = [Line(n, 0, line.encode()) for n, line in enumerate(lines, 1)]
    groups = list(split_text(iter(given_lines), split))
    assert all(any(line.data.strip() for line in group) for group in groups)
    found = b"".join(line.data.strip() for group in groups for line in group)
    wanted = "".join(line.strip() for line in lines)
    assert found.decode() == (wanted.replace("==", "") if split.startswith("marker") else wanted)


def test_documents_survive_their_record() -> None:
    document = Document("s:1", "text", "s", "u", "MIT", None, {"id": 7})
    assert Document.of_record(document.record()) == document


def test_written_bytes_depend_on_the_records_alone(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        with open_writer(tmp_path / name) as file:
            write_record(file, {"text": "é\u2028"})
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert list(iter_records(tmp_path / "a.jsonl.gz")) == [(1, {"text": "é\u2028"})]
    assert content_bytes(tmp_path / "a.jsonl.gz") == len('{"text": "é\u2028"}\n'.encode())
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).endswith(b"\n")
