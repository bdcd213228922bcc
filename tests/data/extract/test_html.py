"""Text of pages: what the tiers keep, encodings, and pages built to stop a parser."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arriero.data.extract import ExtractSettings, make_extractor
from arriero.data.extract.html import HtmlExtractor
from arriero.data.records import Extraction, Limits, Record, Refused
from arriero.errors import ArrieroError

LIMITS = Limits()
PAGE = """<html><head><title>A walk by the river - The Site</title><meta charset="utf-8"></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/n">News</a></li></ul></nav>
<article><h1>A walk by the river</h1>
<p>The path begins behind the old mill and follows the water for about three miles, past meadows and a wood.</p>
<p>In spring the banks are covered with flowers, and with a little patience one can watch a kingfisher at work.</p>
<p><a href="/x">Read more: Ten other walks</a></p>
<p>At the bridge turn left; the inn there serves soup, bread and cheese until late in the afternoon, even on Sundays.</p>
<p>Share this on Facebook</p></article>
<div class="comments" id="comments"><h3>Comments</h3><p>Anna: We were there last week and it was lovely as always.</p></div>
<footer>Copyright 2020 The Site. All rights reserved.</footer></body></html>"""


def record(content: bytes | str, charset: str = "", kind: str = "text/html") -> Record:
    return Record("r", content, kind, 0, len(content), meta={"charset": charset} if charset else {})


def text_of(found: Extraction | Refused) -> str:
    assert isinstance(found, Extraction), found
    return found.text


@pytest.fixture(scope="module")
def default() -> Iterator[HtmlExtractor]:
    yield HtmlExtractor(ExtractSettings())


# ---------------------------------------------------------------- tiers


def test_main_content_without_the_page_around_it(default: HtmlExtractor) -> None:
    found = default.extract(record(PAGE), LIMITS)
    text = text_of(found)
    for kept in ("The path begins", "kingfisher", "bread and cheese"):
        assert kept in text
    for left in ("Home", "Read more", "Share this", "Anna", "Copyright", "A walk by the river"):
        assert left not in text
    assert isinstance(found, Extraction)
    assert found.extractor.startswith("resiliparse: resiliparse ")


@pytest.mark.parametrize("tier", ["trafilatura", "union", "all_text"])
def test_other_tiers(tier: str) -> None:
    pytest.importorskip("trafilatura")
    extractor = HtmlExtractor(ExtractSettings(tier=tier))  # type: ignore[arg-type]
    text = text_of(extractor.extract(record(PAGE), LIMITS))
    assert "kingfisher" in text
    assert ("All rights reserved" in text) == (tier == "all_text")
    assert ("Anna" in text) == (tier == "all_text")


def test_comments_links_and_the_headline_can_be_kept() -> None:
    settings = ExtractSettings(comments=True, links=True, trim=False)
    found = HtmlExtractor(settings).extract(record(PAGE), LIMITS)
    text = text_of(found)
    assert "Anna" in text
    assert "/x" in text
    assert "A walk by the river" in text
    assert isinstance(found, Extraction)
    assert found.extractor.endswith(", comments, links")


def test_text_records_and_unknown_content_go_their_ways() -> None:
    extractor = make_extractor(ExtractSettings())
    assert text_of(extractor.extract(record("plain", kind="text/plain"), LIMITS)) == "plain"
    assert (
        text_of(extractor.extract(record("grün".encode("cp1252"), "latin1", "text/plain"), LIMITS)) == "grün"
    )
    assert text_of(extractor.extract(record(PAGE, kind="application/xhtml+xml"), LIMITS))
    for content, kind, reason in (
        ("a\0b", "text/plain", "extract.nul"),
        (" \n", "text/plain", "extract.empty"),
        (b"\x89PNG", "image/png", "extract.content_type"),
    ):
        found = extractor.extract(record(content, kind=kind), LIMITS)
        assert isinstance(found, Refused)
        assert found.reason == reason


# ---------------------------------------------------------------- encodings


def in_page(text: str, charset: str = "") -> str:
    return (
        f'<html><head><meta http-equiv="x" content="text/html; charset={charset}"></head><p>{text}</p></html>'
    )


RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 5
JAPANESE = "いろはにほへとちりぬるをわかよたれそつねならむ、春は曙。" * 5


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        (in_page("grün", "utf-8").encode(), "", "grün"),
        (in_page("grün").encode(), "iso-8859-1", "grün"),  # HTTP errs; valid UTF-8 is UTF-8
        (in_page("“grün”").encode("cp1252"), "ISO-8859-1", "“grün”"),
        (in_page("grün", "windows-1252").encode("cp1252"), "utf-8", "grün"),
        (in_page(RUSSIAN, "koi8-r").encode("koi8-r"), "", "французских"),
        (in_page(RUSSIAN).encode("cp1251"), "", "французских"),
        (in_page(JAPANESE, "Shift_JIS").encode("cp932"), "", "春は曙"),
        (in_page(JAPANESE).encode("iso2022_jp"), "ISO-2022-JP", "春は曙"),
        (in_page("文字", "gb2312").encode("gb18030"), "", "文字"),
        (b"\xff\xfe" + in_page("grün").encode("utf-16-le"), "", "grün"),
        (in_page("grün").encode("utf-16-be"), "utf-16-be", "grün"),
        (b"\xef\xbb\xbf" + in_page("grün").encode(), "no-such", "grün"),
        (in_page("grün", "rot13").encode("cp1252"), "base64", "grün"),
    ],
)
def test_encodings(default: HtmlExtractor, data: bytes, charset: str, expected: str) -> None:
    assert expected in text_of(default.extract(record(data, charset), LIMITS))


def test_bytes_that_are_no_text_are_refused(default: HtmlExtractor) -> None:
    for data, charset, reason in (
        (b"<p>" + bytes(range(1, 256)) * 40, "utf-8", None),
        (b"<p>a\0b", "", "extract.nul"),
        (b"", "", "extract.empty"),
        (b"\xff\xfe" + b"\x00\xd8" * 500, "", "extract.encoding"),
    ):
        found = default.extract(record(data, charset), LIMITS)
        assert isinstance(found, Refused) if reason else isinstance(found, Refused | Extraction)
        assert reason is None or found.reason == reason  # type: ignore[union-attr]


# ---------------------------------------------------------------- bombs


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a million nested tags": (lambda: b"<div>" * 1_000_000, "extract.too_many_nodes"),
    "deep": (lambda: b"<div>" * 100_000, "extract.too_deep"),
    "deep and closed": (lambda: b"<b>" * 100_000 + b"</b>" * 100_000, "extract.too_deep"),
    "deep behind nonsense": (lambda: b"<x></y>" * 50_000, "extract.too_deep"),
    "tables": (lambda: b"<table><tr><td>" * 30_000, "extract.too_deep"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_html_bombs_are_refused_before_the_parser_sees_them(default: HtmlExtractor, name: str) -> None:
    make, reason = BOMBS[name]
    started = time.process_time()
    found = default.extract(record(make()), LIMITS)
    assert isinstance(found, Refused)
    assert found.reason == reason
    assert time.process_time() - started < 1.0


def test_a_page_that_takes_too_long_is_ended_by_the_watchdog_and_the_next_is_read(
    default: HtmlExtractor,
) -> None:
    """80,000 attributes of one tag: the parser compares each with all others, in C, where no exception can reach it."""
    page = "<div " + " ".join(f"a{number}=1" for number in range(80_000)) + ">text</div>"
    started = time.monotonic()
    found = default.extract(record(page), Limits(seconds=0.5))
    assert isinstance(found, Refused)
    assert (found.reason, found.detail) == ("extract.time", "over 0.5 seconds of CPU time")
    assert time.monotonic() - started < 20  # a busy machine gives it less than a core
    assert "kingfisher" in text_of(default.extract(record(PAGE), LIMITS))


def test_a_child_that_dies_costs_one_page(default: HtmlExtractor) -> None:
    default.extract(record(PAGE), LIMITS)
    child = default._child._child._child
    assert child is not None
    child.kill()
    child.wait()
    found = default.extract(record(PAGE), LIMITS)
    assert isinstance(found, Refused)
    assert found.reason == "extract.crash"
    assert "kingfisher" in text_of(default.extract(record(PAGE), LIMITS))


def test_a_page_that_fills_memory_is_refused() -> None:
    from arriero.data.extract.watchdog import PageWorker
    from arriero.data.readers.sources import Problem

    child = PageWorker("resiliparse", False, False, False, memory=600 << 20)
    assert "kingfisher" in str(child.text(PAGE.encode(), LIMITS))
    found = child.text(b"<p>x" * 10_000_000, Limits(seconds=60))
    assert isinstance(found, Problem)
    assert found.reason in ("extract.memory", "extract.crash", "extract.error")
    assert "kingfisher" in str(child.text(PAGE.encode(), LIMITS))


def test_the_child_ends_with_its_owner(tmp_path: Path) -> None:
    extractor = HtmlExtractor(ExtractSettings())
    extractor.extract(record(PAGE), LIMITS)
    child = extractor._child._child._child
    assert child is not None
    os.kill(child.pid, 0)
    extractor._child.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_careless_pages_are_not_taken_for_bombs(default: HtmlExtractor) -> None:
    for page in (
        "<p>word " * 3000,
        "<ul>" + "<li>word " * 3000,
        "<table>" + "<tr><td><font>word" * 2000,
        "<img src=x><br>word" * 3000,
        "<script>if (a<b) {}</script>" * 2000 + "word",
        "<svg>" + '<path d="M0"/>' * 3000 + "</svg><p>word",
        "<!-- " + "<div>" * 3000 + " --><p>word",
    ):
        assert "word" in text_of(
            HtmlExtractor(ExtractSettings(tier="all_text")).extract(record(page), LIMITS)
        )


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArrieroError, match=r"needs the package resiliparse: install it with pip install"):
        HtmlExtractor(ExtractSettings())


def test_a_child_that_does_not_start_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "arriero.data.child.watchdog._START", "import no_such_module  # {path} {module} {arguments}"
    )
    with pytest.raises(
        ArrieroError, match="does not start: ModuleNotFoundError: No module named 'no_such_module'"
    ):
        HtmlExtractor(ExtractSettings()).extract(record(PAGE), LIMITS)


# ---------------------------------------------------------------- the article pages


@pytest.mark.parametrize(("tier", "least"), [("resiliparse", 0.92), ("trafilatura", 0.96)])
def test_f1_on_article_pages(tier: str, least: float) -> None:
    """Pages that may not be shipped: $ARRIERO_TEST_DATA names the folder with article_extraction/pages.jsonl.gz."""
    folder = os.environ.get("ARRIERO_TEST_DATA", "")
    path = Path(folder) / "article_extraction" / "pages.jsonl.gz"
    if not folder or not path.is_file():
        pytest.skip("ARRIERO_TEST_DATA names no folder with article pages")
    import gzip
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "extraction", Path(__file__).parents[3] / "benchmarks" / "extraction.py"
    )
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    with gzip.open(path) as lines:
        pages = [json.loads(line) for line in lines]
    extractor = HtmlExtractor(ExtractSettings(tier=tier))  # type: ignore[arg-type]
    texts = [getattr(extractor.extract(record(page["html"]), LIMITS), "text", "") for page in pages]
    assert bench.scores([page["articleBody"] for page in pages], texts).f1 >= least
