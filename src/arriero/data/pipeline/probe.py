"""Rates for the device profile: the stage itself, on text made here."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from arriero.artifacts import InputTree
from arriero.cost.device import Rate
from arriero.data.curate import Curate, CurateSettings
from arriero.data.execute.settings import ExecutorSettings
from arriero.data.filters.rules import Rules
from arriero.data.jsonl import open_writer, write_record
from arriero.data.source import Source

_TEXT_BYTES = 3_000_000
_SPREAD = 0.35


def probe_rates() -> dict[str, Rate]:
    """Bytes of text a second through the whole stage on one core, and bytes of HTML a second through extraction."""
    from arriero.tokenization.sample_text import sample_texts

    texts = sample_texts(_TEXT_BYTES)
    rates = {"curate.bytes_per_s": Rate(per_s=_text_rate(texts), spread=_SPREAD, unit="B")}
    if importlib.util.find_spec("resiliparse"):
        rates["curate.html_bytes_per_s"] = Rate(per_s=_html_rate(texts[:200]), spread=_SPREAD, unit="B")
    return rates


def _text_rate(texts: Sequence[str]) -> float:
    with TemporaryDirectory() as name:
        path = Path(name) / "sample.jsonl.gz"
        with open_writer(path) as file:
            for text in texts:
                write_record(file, {"text": text})
        source = Source(path=InputTree(path), name="sample", license="unknown")
        settings = CurateSettings(
            sources=[source], rules=Rules(presets=["none"]), executor=ExecutorSettings(kind="inline")
        )
        context = _Quiet(Path(name))
        started = time.perf_counter()
        Curate().run(settings, {}, context)
        return sum(map(len, texts)) / (time.perf_counter() - started)


def _html_rate(texts: Sequence[str]) -> float:
    from arriero.data.extract import ExtractSettings, make_extractor
    from arriero.data.records import Limits, Record

    extractor = make_extractor(ExtractSettings())
    pages = [_page(text).encode() for text in texts]
    records = [Record(str(n), page, "text/html", 0, len(page)) for n, page in enumerate(pages)]
    extractor.extract(records[0], Limits())
    started = time.perf_counter()
    for record in records:
        extractor.extract(record, Limits())
    return sum(map(len, pages)) / (time.perf_counter() - started)


def _page(text: str) -> str:
    """A page as pages are: most of its bytes are marks, links and scripts."""
    links = "".join(
        f'<li class="menu-item"><a href="/page/{n}" title="Page {n}">Page {n}</a></li>' for n in range(60)
    )
    script = "var data = [" + ",".join(f'{{"id": {n}, "seen": false}}' for n in range(200)) + "];"
    body = "".join(f'<p class="text">{part}</p>' for part in text.split("\n") if part)
    return (
        f"<!doctype html><html><head><title>Sample</title><script>{script}</script></head><body><nav><ul>{links}</ul>"
        f'</nav><main><article class="post">{body}</article></main><footer><ul>{links}</ul></footer></body></html>'
    )


class _Quiet:
    """A context that shows nothing."""

    def __init__(self, root: Path) -> None:
        self.folder, self.state, self.seed = root / "folder", root / "state", 0
        self.folder.mkdir()
        self.state.mkdir()

    def progress(self, done: float, total: float | None, unit: str, **figures: float | str) -> None:
        """Shows nothing."""

    def log(self, **figures: Any) -> None:
        """Writes nothing."""

    def say(self, line: str) -> None:
        """Says nothing."""

    def stop_requested(self) -> bool:
        return False

    def count_flops(self, flops: float) -> None:
        """Counts nothing."""
