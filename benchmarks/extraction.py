"""How well and how fast main content is found: 4-gram precision, recall and F1, and pages per CPU second, by tier.

    python benchmarks/extraction.py pages.jsonl.gz [tier ...]

Each line of the file has ``html`` and ``articleBody`` (the layout of scrapinghub/article-extraction-benchmark joined to
one file). The score is that benchmark's: shingles of four words counted with their multiplicity, precision and recall
averaged over the pages, F1 of the averages.
"""

from __future__ import annotations

import gzip
import json
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


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/extraction.py pages.jsonl.gz [tier ...]")
    with gzip.open(Path(sys.argv[1]), "rt", encoding="utf-8") as lines:
        pages = [json.loads(line) for line in lines]
    tiers = sys.argv[2:] or list(get_args(ExtractSettings.model_fields["tier"].annotation))
    print(f"{len(pages)} pages, {sum(len(page['html']) for page in pages) / 1e6:.1f} M characters of HTML")
    print(f"{'tier':12} precision recall     F1  pages per CPU second")
    for tier in tiers:
        score, seconds = measure(pages, tier, rounds=5 if tier in ("resiliparse", "all_text") else 1)
        print(f"{tier:12} {score.precision:9.4f} {score.recall:6.4f} {score.f1:6.4f} {1 / seconds:8.0f}")


if __name__ == "__main__":
    main()
