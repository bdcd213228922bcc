"""How well and how fast main content is found: 4-gram precision, recall and F1, and pages per CPU second, by tier.

    python benchmarks/extraction.py pages.jsonl.gz [tier ...]
    python benchmarks/extraction.py FOLDER SELECTOR [tier ...]

Each line of the file has ``html`` and ``articleBody`` (the layout of scrapinghub/article-extraction-benchmark joined to
one file). The score is that benchmark's: shingles of four words counted with their multiplicity, precision and recall
averaged over the pages, F1 of the averages.

Of a folder of HTML files the text of the element that the CSS selector names is the true one; 40 files of a seeded draw are
taken. For documentation, which the rules of ``arriero.data.pages.trim`` were not made on: /usr/share/doc/python3.11/html
(Debian's python3.11-doc) with div[role=main], the pages of rustup's rust-docs with main. There the heading counts as text,
which those rules cut by design where it repeats the page's title.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from arriero.data.extract import ExtractSettings
from arriero.data.extract.html import HtmlExtractor
from arriero.data.records import Limits, Record

_WORD = re.compile(r"\w+")
_WORDS = 4
_OF_FOLDER = 40


class Scores(NamedTuple):
    """Averages over pages."""

    precision: float
    recall: float
    f1: float


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """Runs of four words with their counts; a shorter text is one run."""
    words = _WORD.findall(text)
    if not words:
        return Counter()
    return Counter(tuple(words[at : at + _WORDS]) for at in range(max(len(words) - _WORDS + 1, 1)))


def scores(truth: Sequence[str], found: Sequence[str]) -> Scores:
    """Of texts found against the true ones; a page without shingles on one side does not count there."""
    precision, recall = [], []
    for true, text in zip(truth, found, strict=True):
        right, made = shingles(true), shingles(text)
        common = (right & made).total()
        if made:
            precision.append(common / made.total())
        if right:
            recall.append(common / right.total())
    p = sum(precision) / max(len(precision), 1)
    r = sum(recall) / max(len(recall), 1)
    return Scores(p, r, 2 * p * r / (p + r) if p + r else 0.0)


def _cpu() -> float:
    """CPU seconds of this process and of its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(pages: Sequence[dict[str, Any]], tier: Any, rounds: int) -> tuple[Scores, float]:
    """Scores of a tier and its CPU seconds a page, the child process with its start included."""
    records = [Record(str(n), page["html"].encode(), "text/html", n, 0) for n, page in enumerate(pages)]
    started = _cpu()
    extractor = HtmlExtractor(ExtractSettings(tier=tier))
    for _ in range(rounds):
        texts = [getattr(extractor.extract(record, Limits()), "text", "") for record in records]
    extractor.close()
    seconds = (_cpu() - started) / (rounds * len(records))
    return scores([page["articleBody"] for page in pages], texts), seconds


def pages_of_folder(folder: Path, selector: str) -> list[dict[str, Any]]:
    """Pages of 4,000 to 200,000 characters whose element ``selector`` holds 80 words or more."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    files = sorted(folder.rglob("*.html"))
    random.Random(1).shuffle(files)
    pages: list[dict[str, Any]] = []
    for file in files:
        html = file.read_text("utf-8", "replace")
        element = (
            HTMLTree.parse(html).document.query_selector(selector) if 4000 < len(html) < 200_000 else None
        )
        text = extract_plain_text(str(element.html), main_content=False) if element else ""
        if len(text.split()) >= 80:
            pages.append({"html": html, "articleBody": text})
        if len(pages) == _OF_FOLDER:
            break
    return pages


def main() -> None:
    if len(sys.argv) < 2 or (Path(sys.argv[1]).is_dir() and len(sys.argv) < 3):
        sys.exit("usage: python benchmarks/extraction.py pages.jsonl.gz | FOLDER SELECTOR [tier ...]")
    place, *tiers = sys.argv[1:]
    if Path(place).is_dir():
        pages = pages_of_folder(Path(place), tiers.pop(0))
    else:
        with gzip.open(place, "rt", encoding="utf-8") as lines:
            pages = [json.loads(line) for line in lines]
    tiers = tiers or list(get_args(ExtractSettings.model_fields["tier"].annotation))
    print(f"{len(pages)} pages, {sum(len(page['html']) for page in pages) / 1e6:.1f} M characters of HTML")
    print(f"{'tier':12} precision recall     F1  pages per CPU second")
    for tier in tiers:
        score, seconds = measure(pages, tier, rounds=5 if tier in ("resiliparse", "all_text") else 1)
        print(f"{tier:12} {score.precision:9.4f} {score.recall:6.4f} {score.f1:6.4f} {1 / seconds:8.0f}")


if __name__ == "__main__":
    main()
