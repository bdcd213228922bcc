"""JSON lines and plain text: the same documents for any cut, as the reader of whole files makes them, within bounds."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.files import Line
from arriero.data.readers.lines import JsonLinesReader, TextReader, parse_object
from arriero.data.readers.sources import Problem
from arriero.data.records import Limits, Reader, Record, Refused
from arriero.data.textsplit import split_text
from arriero.errors import ArrieroError

LIMITS = Limits(record_bytes=1 << 16)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def read(
    reader: Reader, path: Path, cuts: Sequence[int] = (), limits: Limits = LIMITS
) -> list[Record | Refused]:
    edges: list[int | None] = [0, *sorted(cuts), None]
    pairs = [(start or 0, end) for start, end in itertools.pairwise(edges)]
    return [item for start, end in pairs for item in reader.read(path, start, end, limits)]


def contents(found: Sequence[Record | Refused]) -> list[object]:
    return [item.content if isinstance(item, Record) else item.reason for item in found]


def frames(data: bytes, size: int) -> bytes:
    return b"".join(zstandard.compress(data[at : at + size]) for at in range(0, len(data), size))


def bgzf(data: bytes, size: int) -> bytes:
    """As ``bgzip`` writes: gzip members that state their own length."""
    parts = []
    for at in range(0, len(data), size):
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = packer.compress(data[at : at + size]) + packer.flush()
        head = b"\x1f\x8b\x08\x04" + bytes(4) + b"\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
        tail = struct.pack("<II", zlib.crc32(data[at : at + size]), len(data[at : at + size]))
        parts.append(head + body + tail)
    return b"".join(parts)


def rows(count: int) -> list[str]:
    return [f"text {number} " + "x" * (number * 37 % 200) for number in range(count)]


def jsonl(texts: Sequence[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


# ---------------------------------------------------------------- JSON lines


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: frames(data, 700), lambda data: bgzf(data, 5000)]
)
def test_places_point_to_the_lines_and_cuts_change_nothing(tmp_path: Path, pack: object) -> None:
    data = jsonl(rows(300))
    path = tmp_path / "a.jsonl"
    path.write_bytes(pack(data))  # type: ignore[operator]
    found = read(JsonLinesReader(), path)
    assert contents(found) == rows(300)
    for item, text in zip(found, rows(300), strict=True):
        assert json.loads(data[item.offset : item.offset + item.length])["text"] == text
        assert item.in_content == (pack is not bytes)
        assert item.id == f"a.jsonl:{item.offset}"
    size = path.stat().st_size
    for cuts in ([1], [size // 2], [size // 3, size // 2], [size - 1, size + 9], list(range(1, size, 999))):
        assert read(JsonLinesReader(), path, cuts) == found


def test_splits_are_fixed_ranges_or_lie_at_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    data = jsonl(rows(300))
    path.write_bytes(data)
    assert JsonLinesReader().splits(path, 10_000)[:2] == [(0, 10_000), (10_000, 20_000)]
    path.write_bytes(frames(data, 3000))
    splits = JsonLinesReader().splits(path, 500)
    assert len(splits) > 3
    assert all(path.read_bytes()[start : start + 4] == b"\x28\xb5\x2f\xfd" for start, _ in splits)
    path.write_bytes(gzip.compress(data))
    assert JsonLinesReader().splits(path, 500) == [(0, None)]
    path.write_bytes(zstandard.ZstdCompressor(write_content_size=False).compress(data) * 3)
    assert JsonLinesReader().splits(path, 500) == [(0, None)]
    assert len(read(JsonLinesReader(), path)) == 900


@FUZZ
@given(data=st.data())
def test_any_lines_and_any_cuts(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lines = data.draw(
        st.lists(st.sampled_from(["", " ", '{"text":"a"}', '{"text":"bb\\n"}', "[]", '{"n":1}', "\ufeff{"]))
    )
    content = "\n".join(lines).encode() + data.draw(st.sampled_from([b"", b"\n", b"\n\n"]))
    path = tmp_path_factory.mktemp("l") / "a.jsonl"
    size = data.draw(st.integers(1, 9))
    for packed in (content, frames(content, size)):
        path.write_bytes(packed)
        found = read(JsonLinesReader(), path)
        cuts = data.draw(st.lists(st.integers(1, len(packed) + 2), max_size=5, unique=True))
        assert read(JsonLinesReader(), path, cuts) == found
        expected = [line for line in lines if line.strip()]
        assert len(found) == len(expected)


def test_url_license_and_the_rest_are_kept_and_templates_filled(tmp_path: Path) -> None:
    record = {
        "q": "Why?",
        "a": "So.",
        "url": "http://a",
        "license": "MIT",
        "lang": "en",
        "date": "2020",
        "id": 7,
    }
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + json.dumps(record) + "\n", encoding="utf-8")
    (found,) = read(JsonLinesReader(template="Q: {q}\nA: {a}"), path)
    assert isinstance(found, Record)
    assert (found.content, found.url, found.license, found.lang, found.date, found.meta) == (
        "Q: Why?\nA: So.", "http://a", "MIT", "en", "2020", {"id": 7},
    )  # fmt: skip
    (found,) = read(JsonLinesReader(text_field="q", content_type="text/html"), path)
    assert isinstance(found, Record)
    assert (found.content, found.content_type) == ("Why?", "text/html")
    with pytest.raises(ArrieroError, match="name keys in braces"):
        JsonLinesReader(template="no keys")


BAD_LINES = {
    b'{"text": "a': ("read.json", "column 10"),
    b"[1]": ("read.json", "should be a JSON object, not list"),
    b"[" * 5000: ("read.json", "nested too deep"),
    b'{"n": ' + b"1" * 5000 + b"}": ("read.json", "not valid JSON"),
    b'{"text": "\xff"}': ("read.utf8", "byte 10"),
    b'{"text": "\\ud800"}': ("read.surrogate", "surrogate"),
    b'{"text": "a\\u0000b"}': ("read.nul", "1 NUL"),
    b'{"text": 5}': ("read.field", "should be a string, not int"),
    b'{"txt": "a"}': ("read.field", "did you mean 'txt'"),
    b'{"text": "' + b"x" * LIMITS.record_bytes + b'"}': ("read.too_large", "65549 bytes"),
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: str(line[:12]))
def test_each_bad_line_is_one_reason(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "first"}\n' + line + b'\n{"text": "last"}')
    first, bad, last = read(JsonLinesReader(), path)
    assert contents([first, last]) == ["first", "last"]
    assert isinstance(bad, Refused)
    assert bad.reason == BAD_LINES[line][0]
    assert BAD_LINES[line][1] in bad.detail
    assert (bad.offset, bad.length) == (18, len(line) + 1)


def test_bad_utf8_stops_the_run_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(ArrieroError, match=r"line at byte 0.*set on_bad_utf8: drop"):
        read(JsonLinesReader(on_bad_utf8="error"), path)
    path.write_bytes(b"ok\n\xff")
    with pytest.raises(ArrieroError, match=r"not UTF-8 \(byte 3\).*on_bad_utf8: drop"):
        read(TextReader("line", on_bad_utf8="error"), path)


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats()


@settings(FUZZ, max_examples=30)
@given(st.lists(st.none() | NUMBERS | st.text(), max_size=5))
def test_both_json_parsers_give_the_same(value: object) -> None:
    line = json.dumps({"v": value}).encode()
    found = parse_object(line)
    assert not isinstance(found, Problem)
    assert json.dumps(found) == json.dumps(json.loads(line))


# ---------------------------------------------------------------- damage and bounds


def test_a_line_of_any_length_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"text": "b"}\n')
    tracemalloc.start()
    found = read(JsonLinesReader(), path, [5 << 20, 50 << 20])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert contents(found) == ["a", "read.too_large", "b"]
    assert peak < 4 << 20


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_stops_at_its_expansion(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(pack(b'{"text": "a"}\n' + bytes(200 << 20)))  # type: ignore[operator]
    tracemalloc.start()
    found = read(JsonLinesReader(), path, limits=Limits(record_bytes=1 << 16, expansion=100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert contents(found) == ["a", "read.expansion"]
    assert peak < 80 << 20


@FUZZ
@given(data=st.data())
def test_a_frame_with_a_wrong_checksum_costs_itself_and_cuts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("z") / "a.jsonl.zst"
    texts = rows(40)
    packer = zstandard.ZstdCompressor(write_checksum=True)
    content = jsonl(texts)
    pieces = [packer.compress(content[at : at + 400]) for at in range(0, len(content), 400)]
    hit = data.draw(st.integers(0, len(pieces) - 1))
    broken = bytearray(pieces[hit])
    broken[-data.draw(st.integers(1, 4))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(b"".join([*pieces[:hit], bytes(broken), *pieces[hit + 1 :]]))
    found = read(JsonLinesReader(), path)
    cuts = data.draw(st.lists(st.integers(1, path.stat().st_size), max_size=4, unique=True))
    assert read(JsonLinesReader(), path, cuts) == found
    refused = [item for item in found if isinstance(item, Refused)]
    assert [item.reason for item in refused] == ["read.zstd"]
    lost = [text for text in texts if text not in contents(found)]
    touched = content[max(hit * 400 - 250, 0) : (hit + 1) * 400 + 250].decode()
    assert all(text.split(" x")[0] in touched for text in lost)


@FUZZ
@given(data=st.data(), kind=st.sampled_from(["zst", "bgzf", "gz"]))
def test_any_damage_ends_without_an_exception_and_cuts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    content = jsonl(rows(30))
    packed = {"zst": frames(content, 300), "bgzf": bgzf(content, 300), "gz": gzip.compress(content)}[kind]
    broken = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("z") / "a.jsonl"
    path.write_bytes(bytes(broken[: data.draw(st.integers(1, len(broken)))]))
    found = read(JsonLinesReader(), path)
    cuts = data.draw(st.lists(st.integers(1, len(packed)), max_size=4, unique=True))
    assert read(JsonLinesReader(), path, cuts) == found


@FUZZ
@given(data=st.data(), pack=st.sampled_from([gzip.compress, zstandard.compress]))
def test_a_compressed_file_cut_short_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, pack: object
) -> None:
    path = tmp_path_factory.mktemp("z") / "a.jsonl"
    packed = pack(jsonl(rows(60)))  # type: ignore[operator]
    path.write_bytes(packed[: data.draw(st.integers(4, len(packed) - 1))])
    found = read(JsonLinesReader(), path)
    *good, last = contents(found)
    assert good == rows(60)[: len(good)]
    assert last in ("read.truncated", "read.gzip", "read.zstd")


# ---------------------------------------------------------------- plain text


def by_whole_file(content: bytes, split: str) -> list[str]:
    """What the reader of whole files makes of it."""
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    lines: Iterator[Line] = (Line(0, 0, raw.removesuffix(b"\n")) for raw in content.splitlines(keepends=True))
    return [b"\n".join(line.data for line in group).decode() for group in split_text(lines, split)]


@FUZZ
@given(data=st.data())
def test_text_is_cut_as_before_wherever_it_is_split(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = data.draw(st.text(alphabet="ab#\n \n")).encode()
    split = data.draw(
        st.sampled_from(["file", "line", "blank_lines:1", "blank_lines:2", "marker:#", "marker:##"])
    )
    path = tmp_path_factory.mktemp("t") / "a.txt"
    path.write_bytes(content)
    found = read(TextReader(split), path)
    assert contents(found) == by_whole_file(content, split)
    for item in found:
        assert isinstance(item.content, str)  # type: ignore[union-attr]
        assert content[item.offset :].startswith(item.content.encode())  # type: ignore[union-attr]
    cuts = data.draw(st.lists(st.integers(1, len(content) + 2), max_size=5, unique=True))
    if split != "file":
        assert read(TextReader(split), path, cuts) == found


@FUZZ
@given(data=st.data())
def test_compressed_text_by_markers_is_cut_at_any_frame(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = data.draw(st.text(alphabet="ab#\n", min_size=1)).encode()
    path = tmp_path_factory.mktemp("t") / "a.txt.zst"
    path.write_bytes(frames(content, data.draw(st.integers(1, 6))))
    found = read(TextReader("marker:#"), path)
    assert contents(found) == by_whole_file(content, "marker:#")
    cuts = data.draw(st.lists(st.integers(1, path.stat().st_size), max_size=5, unique=True))
    assert read(TextReader("marker:#"), path, cuts) == found


def test_text_splits(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("line\n" * 1000)
    assert TextReader("file").splits(path, 100) == [(0, None)]
    assert len(TextReader("blank_lines:2").splits(path, 1000)) == 5
    path.write_bytes(frames(path.read_bytes(), 100))
    assert TextReader("blank_lines:2").splits(path, 100) == [(0, None)]
    with pytest.raises(ArrieroError, match="split should be file"):
        TextReader("paragraph")


def test_bad_text_is_refused_by_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfgood\n\xffbad\nn\0l\n" + b"x" * (1 << 17) + b"\nlast")
    found = read(TextReader("line"), path)
    assert contents(found) == ["good", "read.utf8", "read.nul", "read.too_large", "last"]
    path.write_bytes(b"x\n" * (1 << 16))
    assert contents(read(TextReader("file"), path)) == ["read.too_large"]


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="cannot be read: No such file"):
        read(JsonLinesReader(), tmp_path / "none.jsonl")
