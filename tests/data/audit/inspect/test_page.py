"""The page in a browser: what it shows, that nothing of a document runs, keys, widths, contrast."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data.audit.conftest import XSS
from tests.data.audit.curating import curate, write_sources
from tests.serving.chromium import CHROMIUM, Page, visible
from tests.serving.test_page_view import CONTRAST

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.inspect.server import InspectServer

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]
QUIET = "!document.querySelector('#view').hasAttribute('aria-busy')"
SCRIPTS = [
    "#overview",
    "#figures",
    "#documents",
    "#document?number=3",
    "#document?number=2",
    "#cluster?cluster=4",
]


@pytest.fixture
def page(browser: Page, server: InspectServer) -> Iterator[Page]:
    browser.renew()
    browser.size(1280, 900)
    browser.open(server.address)
    browser.wait(visible(".lead"))
    yield browser
    assert browser.problems() == []


def go(page: Page, hash: str, wanted: str) -> None:
    page.ask(f"location.hash = '{hash}'")
    page.wait(f"document.querySelector('{wanted}') && {QUIET}")


def text(page: Page, selector: str) -> str:
    return str(page.ask(f"document.querySelector('{selector}').textContent"))


def test_the_overview(page: Page, server: InspectServer) -> None:
    assert page.ask("location.hash") == "#overview"  # the key is gone from the address
    report = server.inspection.report()
    kept = report["total"]["kept"]["documents"]
    assert f"{kept} documents were kept" in text(page, ".lead")
    assert page.ask("document.querySelectorAll('.funnel > li').length") == len(report["funnel"]) + 2
    reasons = page.ask("[...document.querySelectorAll('.reasons .name')].map(e => e.textContent)")
    assert sorted(reasons) == sorted(report["total"]["dropped"])
    page.ask(
        "[...document.querySelectorAll('.reasons a')].find(a => a.textContent.includes('min_words')).click()"
    )
    page.wait(f"document.querySelector('.list') && {QUIET}")
    dropped = report["total"]["dropped"]["gopher.min_words"]["documents"]
    assert page.ask("document.querySelectorAll('.list li').length") == dropped


def test_nothing_of_a_document_runs(page: Page) -> None:
    page.ask(
        "addEventListener('securitypolicyviolation', (e) => (window.violations ??= []).push(e.violatedDirective))"
    )
    go(page, "#document?number=2", ".pane .body")
    assert "<script>document.title='hit'</script>" in text(page, ".pane .body")
    go(page, "#documents", ".list")
    go(page, "#cluster?cluster=4", ".members")
    assert "hit" not in page.ask("document.title")
    assert page.ask("document.querySelectorAll('main script, main img, main iframe').length") == 0
    assert page.ask("window.violations ?? []") == []


def test_edits_are_marked(page: Page) -> None:
    go(page, "#document?number=3", ".pane .body")
    assert page.ask("[...document.querySelectorAll('del')].map(e => e.title)") == [
        "pii.email",
        "lines.policy",
    ]
    assert text(page, "del") == "█" * 19
    assert page.ask("[...document.querySelectorAll('ins')].map(e => e.textContent)") == ["<email>", "<email>"]
    before, after = page.ask("[...document.querySelectorAll('.body')].map(e => e.textContent)")
    assert after.startswith("Write to <email> today.")
    assert before.startswith("Write to " + "█" * 19 + "<email> today.")
    for expected in ("pii.email", "lines.policy", "pii.email"):
        page.press("n", 78)
        assert page.ask("document.querySelector('del.now').title") == expected
    go(page, "#document?number=5", ".pane .body")
    assert page.ask("[...document.querySelectorAll('del')].map(e => e.title)") == ["duplicate.line"]
    assert len(text(page, "del")) == 10


def test_a_threshold_is_moved_by_keys_and_by_pointer(page: Page, server: InspectServer) -> None:
    go(page, "#figures?figure=f_plain_words", ".handle")
    page.wait("document.querySelector('.moved').textContent.includes('keeps documents with at least 50')")
    page.ask("document.querySelector('.handle').focus()")
    for _ in range(3):
        page.press("ArrowLeft", 37, modifiers=8)
    value = int(page.ask("document.querySelector('.handle').getAttribute('aria-valuenow')"))
    assert value < 50
    expected = server.inspection.answer(
        "moved",
        {"figure": "f_plain_words", "reason": "gopher.min_words", "side": "min", "threshold": str(value)},
    )
    page.wait(
        f"document.querySelector('.moved').textContent.startsWith('{value} instead of 50: {expected['newly_kept']} document')"
    )
    box = page.ask(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])(document.querySelector('.grab').getBoundingClientRect())"
    )
    for kind, shift in (("mousePressed", 0), ("mouseMoved", 150), ("mouseReleased", 150)):
        page.send(
            "Input.dispatchMouseEvent",
            type=kind,
            x=box[0] + shift,
            y=box[1],
            button="left",
            buttons=1,
            clickCount=1,
        )
    page.wait("Number(document.querySelector('.handle').getAttribute('aria-valuenow')) > 50")
    page.wait("document.querySelector('.moved').textContent.includes('would fall out')")
    link = "[...document.querySelectorAll('.quiet')].find(e => e.textContent.includes('fall out'))"
    page.wait(f"(found => found && (found.click(), true))({link})")  # it is drawn anew with each move
    page.wait("document.querySelector('.list')")
    assert "kept" in text(page, ".list .chip")
    go(page, "#figures?figure=f_words", ".bar-row button")
    page.ask("document.querySelector('.chart').parentElement.querySelector('button').click()")
    page.wait("document.querySelector('.moved').textContent.includes('would fall out')")


def test_keys(page: Page) -> None:
    page.press("3", 51)
    page.wait(f"document.querySelector('.list') && {QUIET}")
    page.press("j", 74)
    page.press("j", 74)
    page.press("k", 75)
    page.press("j", 74)
    assert page.ask("document.activeElement.dataset.number") == "1"
    page.enter()
    page.wait(f"document.querySelector('.doc-head .moves') && {QUIET}")
    assert "web:1" in text(page, ".doc-head h2")
    page.press("j", 74)
    page.wait("document.querySelector('.doc-head h2').textContent === 'web:2'")
    page.press("k", 75)
    page.wait("document.querySelector('.doc-head h2').textContent === 'web:1'")
    page.press("Escape", 27)
    page.wait(f"document.querySelector('.list') && {QUIET}")
    page.press("/", 191)
    assert page.ask("document.activeElement.id") == "wanted"
    page.type("web:7")
    page.enter()
    page.wait("document.querySelectorAll('.list li').length === 1")
    page.ask("document.activeElement.blur()")
    page.press("?", 191)
    assert page.ask("document.querySelector('#keys').open")


def test_the_raw_record_is_text(browser: Page, tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "raw")
    page = tmp_path / "raw" / "pages" / "0.html"
    page.write_text(page.read_text().replace("<article>", f"<article>{XSS}"))
    corpus = CuratedCorpus(curate(tmp_path / "run", sources))
    number = next(n for n in range(len(corpus)) if corpus.ledger_row(corpus.at(n))["file"] == "0.html")
    with InspectServer(corpus) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
        thread.start()
        browser.renew()
        browser.open(server.address)
        browser.wait(visible(".lead"))
        go(browser, f"#document?number={number}", "#raw .chip")
        assert text(browser, "#raw .chip") == "matches"
        browser.press("r", 82)
        browser.wait("document.querySelector('.body.raw')")
        assert text(browser, ".body.raw") == page.read_text()
        assert browser.ask("document.querySelectorAll('main script, main img, main article').length") == 0
        assert "hit" not in browser.ask("document.title")
        page.unlink()
        go(browser, f"#document?number={number + 1}", "#raw .chip")
        go(browser, f"#document?number={number}", "#raw .chip")
        browser.wait("document.querySelector('#raw .chip').textContent === 'gone'")
        server.shutdown()
        thread.join(5)
    assert browser.problems() == []


def test_a_wrong_key_and_a_server_that_has_gone(browser: Page, server: InspectServer) -> None:
    browser.renew()
    browser.open(f"http://127.0.0.1:{server.server_port}/#key=wrong")
    browser.wait(visible(".problem"))
    assert "needs its key" in text(browser, ".problem")
    browser.open(server.address)
    browser.wait(visible(".lead"))
    browser.ask("window.fetch = () => Promise.reject(new TypeError('gone'))")
    browser.ask("location.hash = '#documents'")
    browser.wait(visible(".problem"))
    assert "does not answer" in text(browser, ".problem")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_everything_can_be_read_and_nothing_sticks_out(page: Page, width: int, dark: bool) -> None:
    page.dark(dark)
    page.size(width, 740)
    for hash, wanted in zip(
        SCRIPTS, (".lead", ".handle", ".list", ".pane", ".pane", ".members"), strict=True
    ):
        go(page, hash, wanted)
        assert page.ask(CONTRAST) == [], hash
        assert page.ask("document.documentElement.scrollWidth") == width, hash
        assert (
            page.ask(
                "document.querySelector('#view').scrollWidth - document.querySelector('#view').clientWidth"
            )
            <= 0
        ), hash
    page.dark(False)


def test_shots(page: Page, tmp_path: Path) -> None:
    """A picture can be taken of every view: nothing waits for ever."""
    for number, hash in enumerate(SCRIPTS):
        go(page, hash, "#view > *")
        page.shoot(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
