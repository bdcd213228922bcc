from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.data.audit.ledger import read_rows
from arriero.data.dedup.counts import totals_of
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import Dedup, DuplicateLines
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.data.records import Edit, apply_edits

LINES = ["alpha", "beta", "gamma", "delta", "x", ""]
DOCUMENT = st.lists(st.sampled_from(LINES), max_size=6).map("\n".join)


def run_on(
    corpus: ModuleType, folder: Path, texts: list[list[str]], rule: DuplicateLines
) -> tuple[Any, list[list[str | None]]]:
    """(report, texts after the cuts; None where a document fell)."""
    parts = corpus.write_parts(folder / "parts", texts)
    dedup = Dedup(exact=False, threshold=None, lines=rule)
    report = run_dedup(parts, dedup, make_executor(ExecutorSettings(kind="inline")), folder / "work")
    left: list[list[str | None]] = []
    for part, texts_of_part in zip(parts, texts, strict=True):
        own: list[str | None] = list(texts_of_part)
        edits: dict[int, list[Edit]] = {}
        for row in read_rows(folder / "work" / "line_edits" / f"{part.name}.parquet"):
            edits.setdefault(row["row"], []).append(Edit(row["start"], row["end"], "", row["reason"]))
        for number, found in edits.items():
            own[number] = apply_edits(texts_of_part[number], found)
        for row in read_rows(folder / "work" / "decisions" / f"{part.name}.parquet"):
            own[row["row"]] = None
        left.append(own)
    return report, left


def plain(texts: list[list[str]], rule: DuplicateLines) -> list[list[str]]:
    """Lines that stay, by counting in memory."""
    flat = [text.split("\n") for part in texts for text in part]
    holders: dict[str, list[int]] = {}
    for number, found in enumerate(flat):
        for line in dict.fromkeys(found):
            holders.setdefault(line, []).append(number)

    def stays(number: int, line: str) -> bool:
        exempt = len(line) < max(1, rule.min_characters) or not line
        return exempt or len(holders[line]) <= rule.more_than or number in holders[line][: rule.keep]

    return [[line for line in found if stays(number, line)] for number, found in enumerate(flat)]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(DOCUMENT, max_size=3), min_size=1, max_size=3),
    st.sampled_from([(1, 1), (2, 1), (1, 0), (2, 2)]),
)
def test_lines_that_stay_are_those_of_counting_in_memory(
    corpus: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[list[str]],
    limits: tuple[int, int],
) -> None:
    rule = DuplicateLines(more_than=limits[0], keep=limits[1], min_characters=2, min_words=1, drop_above=None)
    _, left = run_on(corpus, tmp_path_factory.mktemp("lines"), texts, rule)
    flat = [text for part in left for text in part]
    for found, before, expected in zip(
        flat, (t for part in texts for t in part), plain(texts, rule), strict=True
    ):
        if found is None:
            assert before.strip() and not "".join(expected).strip(), "only what has nothing left falls"
        else:
            assert [line for line in found.split("\n") if line] == [line for line in expected if line]


def test_short_lines_stay_and_most_frequent_are_named(corpus: ModuleType, tmp_path: Path) -> None:
    footer = "Subscribe to our 24 newsletters today, for free."
    other = "SUBSCRIBE to our 99 newsletters today: for free!"
    texts = [[corpus.prose(60, n) + "\n}\nMenu\n" + (footer if n % 2 else other) for n in range(4)]]
    report, left = run_on(corpus, tmp_path, texts, DuplicateLines())
    assert left[0][0] == texts[0][0], "the first occurrence stays"
    assert all(text is not None and text.endswith("}\nMenu\n") for text in left[0][1:])
    step = report.steps["duplicate.line"]
    assert step["most_frequent"] == [{"text": other, "documents": 4}]
    assert (step["repeated"], step["repeated_occurrences"], step["cut"]) == (1, 4, 3)


def test_a_document_that_loses_most_of_itself_falls(corpus: ModuleType, tmp_path: Path) -> None:
    base = corpus.prose(120, 1)
    texts = [[base], [base + "\nshort end"], [base + "\n" + corpus.prose(60, 2)]]
    report, left = run_on(corpus, tmp_path, texts, DuplicateLines(drop_above=0.9))
    assert left[0] == [base] and left[1] == [None]
    assert left[2][0] is not None and left[2][0].strip() == corpus.prose(60, 2)
    assert report.total.dropped == {"duplicate.line": [1, len(texts[1][0])]}


def test_report_alone_changes_nothing(corpus: ModuleType, tmp_path: Path) -> None:
    texts = [[corpus.prose(60, 1)], [corpus.prose(60, 1)]]
    report, left = run_on(corpus, tmp_path, texts, DuplicateLines(action="report"))
    assert left == texts
    assert report.steps["duplicate.line"]["repeated"] == 5 and report.steps["duplicate.line"]["cut"] == 0


def test_keeping_more_than_counts_is_refused() -> None:
    with pytest.raises(ValidationError, match="set more_than to at least 3"):
        DuplicateLines(keep=3, more_than=2)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5)), max_size=20))
def test_totals_and_those_before(pairs: list[tuple[int, int]]) -> None:
    pairs = sorted(pairs, key=lambda pair: pair[0])
    keys, counts = np.array([k for k, _ in pairs], np.uint64), np.array([n for _, n in pairs], np.int64)
    totals, bases = totals_of(keys, counts)
    assert totals.tolist() == [sum(n for k, n in pairs if k == key) for key, _ in pairs]
    assert bases.tolist() == [sum(n for k, n in pairs[:i] if k == key) for i, (key, _) in enumerate(pairs)]
