from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.data.documents import Document, Source, Undecodable, read_source
from arriero.data.files import Line, content_bytes
from arriero.data.jsonl import iter_records, open_writer, write_record
from arriero.data.textsplit import split_text
from arriero.errors import ArrieroError


def source(path: Path, content: bytes, **settings: Any) -> Source:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return Source(path=path, name="s", license="CC0-1.0", **settings)  # type: ignore[arg-type]


def texts(one: Source) -> list[str]:
    return [d.text for d in read_source(one) if isinstance(d, Document)]


@pytest.mark.parametrize("ending", [".txt", ".txt.gz"])
@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("file", ["a\nb\n\nc\n\n\nd==e"]),
        ("line", ["a", "b", "c", "d==e"]),
        ("blank_lines:1", ["a\nb\n", "c\n\n", "d==e"]),
        ("blank_lines:2", ["a\nb\n\nc\n\n", "d==e"]),
        ("marker:==", ["a\nb\n\nc\n\n\nd", "e"]),
        ("marker:x", ["a\nb\n\nc\n\n\nd==e"]),
    ],
)
def test_text_is_cut_as_said(tmp_path: Path, ending: str, split: str, expected: list[str]) -> None:
    found = source(tmp_path / f"a{ending}", b"\xef\xbb\xbfa\nb\n\nc\n\n\nd==e", split=split)
    assert texts(found) == expected


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


def test_jsonl_fields_template_and_meta(tmp_path: Path) -> None:
    rows = [
        {"text": "hi", "id": 7, "url": "u", "license": "MIT", "q": "Q?", "a": "A."},
        {"text": "l\u2028ine", "q": "1", "a": "2"},
    ]
    content = ("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)).encode()
    plain = source(tmp_path / "a.jsonl.gz", content, url="origin")
    assert list(read_source(plain)) == [
        Document("s:0", "hi", "s", "u", "MIT", None, {"id": 7}),
        Document("s:1", "l\u2028ine", "s", "origin", "CC0-1.0", None, {}),
    ]
    assert texts(source(tmp_path / "b.jsonl", content, text_field="q")) == ["Q?", "1"]
    assert texts(source(tmp_path / "c.jsonl", content, template="Q: {q}\nA: {a}")) == [
        "Q: Q?\nA: A.",
        "Q: 1\nA: 2",
    ]
    assert Document.of_record(next(read_source(plain)).record()) == next(read_source(plain))  # type: ignore[union-attr]


def test_max_bytes_stops_before_it_is_passed(tmp_path: Path) -> None:
    assert texts(source(tmp_path / "a.txt", b"aa\nbb\ncc", split="line", max_bytes=5)) == ["aa", "bb"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"fine\nb\xffd", r"a.txt line 2 is not UTF-8 \(byte 6\)"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}', r"a.jsonl line 2 is not UTF-8 \(byte 24\)"),
        ("a.jsonl", b'{"text": "x"}\n{"text"', "a.jsonl line 2 is not valid JSON: .* at column 8"),
        ("a.jsonl", b"[1]", "line 1 should be a JSON object, not list"),
        ("a.jsonl", b'{"txet": "x"}', "line 1 has no field 'text'; did you mean 'txet'"),
        ("a.jsonl", b'{"text": 3}', "line 1: the field 'text' should be a string, not int"),
        ("a.jsonl", b'{"text": "\\ud800"}', "line 1 is not Unicode text"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not valid JSON: nested too deep"),
    ],
)
def test_bad_input_is_one_line_with_its_place(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(ArrieroError, match=said) as caught:
        list(read_source(source(tmp_path / name, content)))
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_can_be_dropped(tmp_path: Path) -> None:
    one = source(tmp_path / "a.txt", b"good\nb\xffd\nfine", split="line", on_bad_utf8="drop")
    assert list(read_source(one))[1] == Undecodable("s:1", "s", 3, "b\\xffd")
    two = source(
        tmp_path / "a.jsonl", b'{"text": "\xff"}\n{"text": "\\ud800"}\n{"text": "x"}', on_bad_utf8="drop"
    )
    assert [type(d) for d in read_source(two)] == [Undecodable, Undecodable, Document]


def test_damaged_missing_and_strange_files(tmp_path: Path) -> None:
    broken = tmp_path / "a.txt.gz"
    broken.write_bytes(gzip.compress(b"some text " * 100)[:-20])
    for path, said in [
        (broken, "damaged or cut short"),
        (tmp_path / "no.txt", "there is no file"),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(ArrieroError, match=said):
            list(read_source(Source(path=path, name="s", license="x", format="text")))  # type: ignore[arg-type]
    broken.write_bytes(b"no gzip")
    with pytest.raises(ArrieroError, match="damaged"):
        list(read_source(Source(path=broken, name="s", license="x")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"split": "lines"},
        {"split": "blank_lines:0"},
        {"split": "marker:"},
        {"template": "no keys"},
        {"template": "{0}"},
        {"name": "a b"},
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Source(**{"path": tmp_path / "a.txt", "name": "s", "license": "x", **settings})
    with pytest.raises(ValidationError, match="does not say its format"):
        Source(path=tmp_path / "a.dat", name="s", license="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "module"), [("a.jsonl.zst", "zstandard"), ("a.parquet", "pyarrow")])
def test_the_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.parquet", None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ArrieroError, match=rf"needs the package {module}: .*arriero\[data\]"):
        list(read_source(Source(path=tmp_path / name, name="s", license="x")))  # type: ignore[arg-type]


def test_zstd_and_parquet(tmp_path: Path) -> None:
    zstandard, pyarrow = pytest.importorskip("zstandard"), pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    packed = zstandard.ZstdCompressor().compress(b'{"text": "a"}\n') + zstandard.ZstdCompressor().compress(
        b'{"text": "b"}'
    )
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(packed)
    assert texts(Source(path=path, name="s", license="x")) == ["a", "b"]  # type: ignore[arg-type]
    path.write_bytes(packed[:-3])
    with pytest.raises(ArrieroError, match="damaged or cut short"):
        texts(Source(path=path, name="s", license="x"))  # type: ignore[arg-type]
    table = pyarrow.table({"text": [f"text {n}" for n in range(3000)], "url": ["u"] * 3000})
    parquet.write_table(table, tmp_path / "a.parquet")
    rows = Source(path=tmp_path / "a.parquet", name="s", license="x")  # type: ignore[arg-type]
    assert texts(rows) == [f"text {n}" for n in range(3000)]
    assert next(read_source(rows)).url == "u"  # type: ignore[union-attr]
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(ArrieroError, match="is no Parquet file"):
        texts(rows)


def test_written_bytes_depend_on_the_records_alone(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        with open_writer(tmp_path / name) as file:
            write_record(file, {"text": "é\u2028"})
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert list(iter_records(tmp_path / "a.jsonl.gz")) == [(1, {"text": "é\u2028"})]
    assert content_bytes(tmp_path / "a.jsonl.gz") == len('{"text": "é\u2028"}\n'.encode())
