"""Rows of Posts.xml: any cut of a file gives each row once; references resolved as XML says; nothing expanded."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from itertools import pairwise
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.stackexchange import rows as module
from arriero.data.stackexchange.rows import Row, attributes, prolog_problem, scan

CHARACTERS = st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\ufffe\uffff").filter(
    lambda c: ord(c) >= 32 or c in "\t\n\r"
)
VALUES = st.text(CHARACTERS, max_size=40)


def row_of(values: dict[str, str]) -> str:
    written = [
        f"{name}={quoteattr(value, {chr(10): '&#xA;', chr(13): '&#xD;', chr(9): '&#x9;'})}"
        for name, value in values.items()
    ]
    return f"  <row {' '.join(written)} />\n"


def values_of(row: Row) -> dict[str, str]:
    values = attributes(row)
    assert isinstance(values, dict)
    return values


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"Id": VALUES, "Body": VALUES}), max_size=6), st.data())
def test_every_cut_gives_every_row_once_and_as_an_xml_parser_reads_it(
    given_rows: list[dict[str, str]], data: st.DataObject
) -> None:
    text = "<posts>\n" + "".join(map(row_of, given_rows)) + "</posts>"
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=4)))
    edges = [0, *cuts, None]
    found = []
    for start, end in pairwise(edges):
        assert start is not None
        found += list(scan(io.BytesIO(raw), start, end, 1 << 20))
    assert [values_of(row) for row in found] == [dict(row.attrib) for row in ET.fromstring(text)]
    assert all(raw[row.offset : row.offset + row.length] == row.data for row in found)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_rows_or_problems(noise: bytes) -> None:
    raw = b'<posts><row Id="1"/>' + noise + b'<row Id="2" />'
    for row in scan(io.BytesIO(raw), 0, None, 100):
        assert 0 < row.length <= len(raw) - row.offset
        if not row.problem:
            assert len(row.data) <= 100
            attributes(row)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"<posts>" + b"".join(b'<row Id="%d" Body="%s"/>' % (n, b"x" * n) for n in range(60)) + b"</posts>"
    whole = list(scan(io.BytesIO(raw), 0, None, 1 << 20))
    for block in (1, 2, 7, 64):
        monkeypatch.setattr(module, "BLOCK", block)
        assert list(scan(io.BytesIO(raw), 0, None, 1 << 20)) == whole


def test_a_row_that_is_too_long_is_passed_over_and_the_next_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    raw = b'<posts><row Id="1" Body="' + b"y" * 500 + b'"/>\n<row Id="2"/></posts>'
    long, short = scan(io.BytesIO(raw), 0, None, 100)
    assert long.problem == "read.record_bytes" and not long.data
    assert values_of(short) == {"Id": "2"} and long.offset + long.length == short.offset


def test_a_row_without_an_end_is_truncated_or_malformed() -> None:
    raw = b'<posts><row Id="1" Body="a <row Id="2"/><row Id="3" Body="'
    first, second, third = scan(io.BytesIO(raw), 0, None, 1000)
    assert (first.problem, second.problem, third.problem) == ("read.malformed", "", "read.truncated")


def test_billion_laughs_is_refused_before_any_row() -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><posts><row Id="1" Body="&b;"/>'
    assert prolog_problem(bomb) == (
        "read.xml_doctype",
        "a document type definition stands before the posts; dumps have none",
    )
    (row,) = scan(io.BytesIO(bomb), 0, None, 1000)
    assert attributes(row) == ("read.xml_entity", "Body refers to an entity that XML does not define")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\xff\xfe<\x00p\x00", "read.encoding"),
        (b'<users>\n<row Id="1"/>', "read.not_posts"),
        (b"no xml at all", "read.not_posts"),
        (b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\n<posts>\n', None),
    ],
)
def test_what_a_file_begins_with(head: bytes, reason: str | None) -> None:
    found = prolog_problem(head)
    assert (found[0] if found else None) == reason


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("&amp;lt;", "&lt;"),
        ("&amp;#xA;", "&#xA;"),
        ("&#38;amp;", "&amp;"),
        ("&#x1F600;&#10;", "\U0001f600\n"),
        ("&#0;&#xD800;&#x110000;", "\ufffd\ufffd\ufffd"),
    ],
)
def test_references(raw: str, value: str) -> None:
    data = f'<row Body="{raw}"/>'.encode()
    assert values_of(Row(0, len(data), data)) == {"Body": value}


def test_bytes_that_are_not_utf8_are_one_problem() -> None:
    data = b'<row Body="\xff"/>'
    assert attributes(Row(7, len(data), data)) == ("read.encoding", "byte 18 is not UTF-8")
