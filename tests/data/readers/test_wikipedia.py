"""MediaWiki dumps: pages, splits, multistream files with their index, and bad input."""

import bz2
import gzip
import os
import random
from pathlib import Path

import pytest

from arriero.data.readers import format_of
from arriero.data.readers.wikipedia import LLAMA1_LANGUAGES, WikipediaReader, unescape
from arriero.data.records import Limits, Record, Refused

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">\n  <siteinfo>\n'
    "    <base>https://de.wikipedia.org/wiki/Hauptseite</base>\n  </siteinfo>\n"
)
TAIL = "</mediawiki>\n"


def page(number: int, title: str = "", text: str = "Text &amp; more", ns: int = 0, extra: str = "") -> str:
    return (
        f"  <page>\n    <title>{title or f'Seite {number}'}</title>\n    <ns>{ns}</ns>\n    <id>{number}</id>\n{extra}"
        f"    <revision>\n      <id>9{number}</id>\n      <timestamp>2024-01-02T03:04:05Z</timestamp>\n"
        f"      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="3" xml:space="preserve">{text}</text>\n    </revision>\n  </page>\n'
    )


def read(
    path: Path, split_bytes: int = 1 << 40, limits: Limits | None = None, **options: object
) -> list[Record | Refused]:
    reader = WikipediaReader(**options)  # type: ignore[arg-type]
    return [
        each
        for s, e in reader.splits(path, split_bytes)
        for each in reader.read(path, s, e, limits or Limits())
    ]


def test_a_page(tmp_path: Path) -> None:
    path = tmp_path / "dewiki-20240101-pages-articles.xml"
    path.write_text(
        HEAD + page(7, "Größe &amp; Maß", "''x'' &lt;ref&gt;é&#233;&amp;nbsp;") + TAIL, encoding="utf-8"
    )
    (found,) = read(path)
    assert isinstance(found, Record)
    assert (found.id, found.lang, found.date) == ("7", "de", "2024-01-02T03:04:05Z")
    assert found.content == "''x'' <ref>éé&nbsp;"
    assert found.url == "https://de.wikipedia.org/wiki/Größe_&_Maß"
    assert found.meta["title"] == "Größe & Maß"
    assert found.license == "CC-BY-SA-4.0"
    raw = path.read_bytes()[found.offset : found.offset + found.length]
    assert raw.startswith(b"<page>") and raw.endswith(b"</page>")
    assert format_of(path) == "wikipedia"


def test_only_articles(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    redirect = '    <redirect title="Seite 1" />\n'
    pages = [page(1), page(2, ns=1), page(3, extra=redirect), page(4, ns=-2), page(5), page(6, text="")]
    pages.append(page(8).replace(">wikitext<", ">json<"))
    path.write_text(HEAD + "".join(pages) + TAIL)
    assert [each.id for each in read(path)] == ["1", "5", "6"]


@pytest.mark.parametrize("split_bytes", [1, 100, 333, 1000, 5000, 1 << 30])
def test_splits_of_a_plain_file(tmp_path: Path, split_bytes: int) -> None:
    r = random.Random(1)
    path = tmp_path / "x.xml"
    path.write_text(HEAD + "".join(page(n, text="ü" * r.randint(0, 900)) for n in range(12)) + TAIL)
    whole, parts = read(path), read(path, split_bytes)
    assert [(each.id, each.offset) for each in parts] == [(each.id, each.offset) for each in whole]
    assert len(whole) == 12


def multistream(folder: Path, packed_index: bool) -> Path:
    path = folder / "dewiki-20240101-pages-articles-multistream.xml.bz2"
    data, lines = bz2.compress(HEAD.encode()), []
    for first in range(0, 50, 10):
        lines += [f"{len(data)}:{n}:Seite: {n}" for n in range(first, first + 10)]
        data += bz2.compress("".join(page(n) for n in range(first, first + 10)).encode())
    path.write_bytes(data + bz2.compress(TAIL.encode()))
    index = "\n".join(lines).encode() + b"\n"
    name = "dewiki-20240101-pages-articles-multistream-index.txt"
    (folder / (name + ".bz2" * packed_index)).write_bytes(bz2.compress(index) if packed_index else index)
    return path


@pytest.mark.parametrize("packed_index", [False, True])
@pytest.mark.parametrize("split_bytes", [1, 500, 1 << 30])
def test_multistream(tmp_path: Path, split_bytes: int, packed_index: bool) -> None:
    path = multistream(tmp_path, packed_index)
    found = read(path, split_bytes)
    assert [each.id for each in found] == [str(n) for n in range(50)]
    assert len(WikipediaReader().splits(path, 1)) == 6
    for each in found:
        assert isinstance(each, Record) and each.in_content
        with path.open("rb") as file:
            file.seek(each.meta["stream"])
            content = bz2.open(file).read()  # noqa: SIM115
        assert content[each.offset : each.offset + each.length].startswith(b"<page>\n    <title>Seite")


def test_an_index_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    path = multistream(tmp_path, False)
    path.with_name("dewiki-20240101-pages-articles-multistream-index.txt").write_text("99999999:1:A\n")
    assert WikipediaReader().splits(path, 1) == [(0, None)]
    assert len(read(path)) == 50


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_compressed(tmp_path: Path, pack: object) -> None:
    ending = ".gz" if pack is gzip.compress else ".bz2"
    path = tmp_path / f"x.xml{ending}"
    path.write_bytes(pack((HEAD + page(1) + page(2) + TAIL).encode()))  # type: ignore[operator]
    assert [each.id for each in read(path)] == ["1", "2"]
    path.write_bytes(path.read_bytes()[:-20])
    last = read(path)[-1]
    assert isinstance(last, Refused) and last.reason == "read.truncated"


def test_languages(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text(HEAD + page(1) + TAIL)
    assert len(read(path, languages=LLAMA1_LANGUAGES)) == 1
    assert len(read(path, languages="llama1")) == 1
    assert read(path, languages=["fr"]) == []
    assert len(LLAMA1_LANGUAGES) == len(set(LLAMA1_LANGUAGES)) == 20


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' for n in range(1, 10))
    + "]>"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS + HEAD + page(1, text="&lol9;") + TAIL, "read.dtd"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd">' + HEAD + page(1), "read.dtd"),
        (HEAD + page(1)[:200], "read.truncated"),
        (HEAD + page(1, text="x" * 5000), "read.too_large"),
        (HEAD + page(1).replace("<title>", "<titel>"), "read.no_title"),
    ],
)
def test_bad_input_is_one_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.xml"
    path.write_text(text)
    found = read(path, 300, Limits(record_bytes=4000))
    assert [each.reason for each in found if isinstance(each, Refused)] == [reason]
    assert len(found) == 1


def test_pages_after_a_large_one_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_text(HEAD + page(1, text="x" * 3_000_000) + page(2) + TAIL)
    first, second = read(path, limits=Limits(record_bytes=1_000_000))
    assert isinstance(first, Refused) and first.reason == "read.too_large"
    assert second.id == "2"


def test_entities_are_not_expanded() -> None:
    assert (
        unescape("&lol9;&amp;lt;&lt;&#65;&#x42;&#0;&#xD800;&#99999999;")
        == "&lol9;&lt;<AB\ufffd\ufffd&#99999999;"
    )


def test_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "x.xml.bz2"
    path.write_bytes(bz2.compress(HEAD.encode() + b" " * 30_000_000) * 4)
    (found,) = read(path, limits=Limits(expansion=2))
    assert isinstance(found, Refused) and found.reason == "read.expansion"


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes((HEAD + page(1)).encode("utf-16"))
    (found,) = read(path)
    assert isinstance(found, Refused) and found.reason == "read.encoding"


def test_any_bytes(tmp_path: Path) -> None:
    r = random.Random(3)
    for ending, data in (
        ("", (HEAD + page(1) + page(2)).encode()),
        (".bz2", bz2.compress((HEAD + page(1)).encode())),
    ):
        path = tmp_path / f"x.xml{ending}"
        for _ in range(100):
            broken = bytearray(data)
            for _ in range(r.randint(1, 9)):
                broken[r.randrange(len(broken))] = r.randrange(256)
            path.write_bytes(bytes(broken[: r.randint(0, len(broken))]))
            assert all(isinstance(each, (Record, Refused)) for each in read(path))


@pytest.mark.skipif("ARRIERO_TEST_DATA" not in os.environ, reason="no real dumps here")
def test_a_real_dump() -> None:
    for path in sorted(Path(os.environ["ARRIERO_TEST_DATA"]).rglob("*wiki*-pages-articles*.xml*")):
        found = read(path)
        assert found and all(isinstance(each, Record) for each in found)
