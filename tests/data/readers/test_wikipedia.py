"""MediaWiki dumps: pages, splits, multistream files with their index, and bad input."""

import bz2
import gzip
import itertools
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.readers import bzip2_streams, format_of
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
    assert found.license_evidence == "declared: terms of use of wikipedia, by the dump's date 2024-01-01"
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
    assert len(WikipediaReader().splits(path, 1)) == 7, (
        "by the streams themselves, the last with the end alone"
    )
    assert len(read(path)) == len(read(path, 1)) == 50


def whole_and_parts(path: Path, split_bytes: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    found = []
    for each in (read(path), read(path, split_bytes)):
        assert all(isinstance(one, Record) for one in each)
        found.append([(one.id, one.length) for one in each])
    return found[0], found[1]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_streams_cut_anywhere_give_every_page_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """As pbzip2 cuts them, in pages and in tags too, without an index."""
    r = random.Random(data.draw(st.integers(0, 99)))
    content = HEAD + "".join(page(n, text="ü" * r.randint(0, 300)) for n in range(12)) + TAIL
    raw = content.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    edges = [0, *cuts, len(raw)]
    path = tmp_path_factory.mktemp("w") / "x.xml.bz2"
    path.write_bytes(b"".join(bz2.compress(raw[a:b]) for a, b in itertools.pairwise(edges)))
    whole, parts = whole_and_parts(path, data.draw(st.sampled_from([1, 200, 900])))
    assert whole == parts
    assert len(whole) == 12
    if cuts:
        assert len(WikipediaReader().splits(path, 1)) == len(edges) - 1


def test_stream_starts_are_all_found_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bzip2_streams, "_BLOCK", 4096)  # so that starts lie across the blocks that are read
    r = random.Random(5)
    data, starts = b"", []
    for _ in range(40):
        starts.append(len(data))
        data += bz2.compress(r.randbytes(r.randint(0, 3000)), r.randint(1, 9))
    path = tmp_path / "x.bz2"
    path.write_bytes(data)
    empty = [at for at in starts if data[at + 4 : at + 10] != bytes.fromhex("314159265359")]
    assert bzip2_streams.stream_starts(path, 1) == [at for at in starts if at not in empty or at == 0]
    for step in (5000, 20_000):
        found = bzip2_streams.stream_starts(path, step)
        assert set(found) <= set(starts)
        assert all(step <= b - a for a, b in itertools.pairwise(found))
    magic = b"BZh9" + bytes.fromhex("314159265359")
    path.write_bytes(bz2.compress(b"a") + r.randbytes(50) + magic + r.randbytes(50))
    assert bzip2_streams.stream_starts(path, 1) == [0], "the beginning of a stream without an end before it"
    path.write_bytes(bz2.compress(r.randbytes(300_000)))
    assert bzip2_streams.stream_starts(path, 1000) == [0]


def test_damage_in_one_stream_is_told_once(tmp_path: Path) -> None:
    streams = [bz2.compress("".join(page(10 * k + n) for n in range(10)).encode()) for k in range(4)]
    broken = bytearray(streams[2])
    broken[40] ^= 255
    path = tmp_path / "x.xml.bz2"
    path.write_bytes(b"".join([*streams[:2], bytes(broken), streams[3]]))
    found = read(path, 1)
    assert [each.reason for each in found if isinstance(each, Refused)] == ["read.damaged"]
    assert {each.id for each in found if isinstance(each, Record)} >= {
        str(n) for n in (*range(20), *range(30, 40))
    }


FREE = "CC-BY-SA-3.0 OR GFDL-1.3-or-later"


@pytest.mark.parametrize(
    ("file", "base", "generator", "license", "why"),
    [
        ("dewiki-20230601-pages-articles.xml", "de.wikipedia.org", "1.41", FREE, "the dump's date 2023-06-01"),
        ("dewiki-20230620-pages-articles.xml", "de.wikipedia.org", "1.41", "CC-BY-SA-4.0", "date 2023-06-20"),
        ("enwiki-20080103-pages-articles.xml", "en.wikipedia.org", "1.12", "GFDL-1.2-or-later", "2008-01-03"),
        ("enwiki-latest-pages.xml", "en.wikipedia.org", "1.27.0-wmf.22", FREE, "MediaWiki 1.27 made the dump"),
        ("x.xml", "fr.wiktionary.org", "1.43.0-wmf.1", "CC-BY-SA-4.0", "MediaWiki 1.43"),
        ("x.xml", "fr.wiktionary.org", "1.41.0-wmf.20", "CC-BY-SA-4.0", "the revision's date 2024-01-02"),
        ("enwikivoyage-20200101-pages.xml", None, "", "CC-BY-SA-3.0", "terms of use of wikivoyage"),
        ("enwikinews-20200101-pages.xml", None, "", "CC-BY-2.5", "terms of use of wikinews"),
        ("x.xml", "www.wikidata.org", "1.43", "CC0-1.0", "terms of use of wikidata"),
        ("x.xml", "community.fandom.com", "1.43", None, None),
    ],
)  # fmt: skip
def test_the_licence_is_that_of_the_project_and_the_day(
    tmp_path: Path, file: str, base: str | None, generator: str, license: str | None, why: str | None
) -> None:
    site = f"    <base>https://{base}/wiki/Main</base>\n" if base else ""
    made = f"    <generator>MediaWiki {generator}</generator>\n" if generator else ""
    path = tmp_path / file
    path.write_text(f'<mediawiki xml:lang="en">\n  <siteinfo>\n{site}{made}  </siteinfo>\n' + page(1) + TAIL)
    (found,) = read(path)
    assert isinstance(found, Record)
    assert found.license == license
    if why is None:
        assert found.license_evidence is None
    else:
        assert found.license_evidence is not None and why in found.license_evidence


def test_a_revision_before_the_change_keeps_its_licence(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    old, new = page(1).replace("2024-01-02", "2023-06-06"), page(2).replace("2024-01-02", "2023-06-07")
    path.write_text(HEAD + old + new + TAIL)
    assert [each.license for each in read(path) if isinstance(each, Record)] == [FREE, "CC-BY-SA-4.0"]


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
