from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.data.audit.ledger import read_rows
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import Dedup, DuplicateLines, DuplicateSpans
from arriero.data.dedup.substring import apart, covered
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.data.records import Edit, apply_edits

WORDS = 8
INLINE = ExecutorSettings(kind="inline")


def after_cuts(folder: Path, parts: list[Path], texts: list[list[str]]) -> list[str]:
    """Texts after the cuts; "" where a document fell."""
    left = []
    for part, texts_of_part in zip(parts, texts, strict=True):
        own = list(texts_of_part)
        edits: dict[int, list[Edit]] = {}
        for row in read_rows(folder / "line_edits" / f"{part.name}.parquet"):
            edits.setdefault(row["row"], []).append(Edit(row["start"], row["end"], "", row["reason"]))
        for number, found in edits.items():
            own[number] = apply_edits(texts_of_part[number], found)
        for row in read_rows(folder / "decisions" / f"{part.name}.parquet"):
            own[row["row"]] = ""
        left += own
    return left


def plain(texts: list[str]) -> list[list[str]]:
    """Words that stay, by comparing windows of words in memory."""
    first: dict[tuple[str, ...], tuple[int, int]] = {}
    left = []
    for number, text in enumerate(texts):
        words = text.split()
        cut = [False] * len(words)
        for place in range(len(words) - WORDS + 1):
            where = first.setdefault(tuple(words[place : place + WORDS]), (number, place))
            if where[0] != number or place >= where[1] + WORDS:
                cut[place : place + WORDS] = [True] * WORDS
        left.append([word for word, gone in zip(words, cut, strict=True) if not gone])
    return left


PIECES = [
    ["a"] * 20,
    ["a", "b"] * 12,
    list("abcdefghijklm"),
    list("nopqrstuvwxyz"),
    list("cdefghij"),
    ["\n\n"],
    ["z"],
]
DOCUMENT = st.lists(st.sampled_from(PIECES), max_size=5).map(
    lambda pieces: " ".join(w for p in pieces for w in p)
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(DOCUMENT, max_size=3), min_size=1, max_size=3))
def test_both_methods_leave_what_a_comparison_in_memory_leaves(
    corpus: ModuleType, tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("spans")
    parts = corpus.write_parts(folder / "parts", texts)
    flat = [text for part in texts for text in part]
    for method in ("suffix_array", "windows"):
        spans: Any = DuplicateSpans(words=WORDS, method=method, drop_above=None)
        dedup = Dedup(exact=False, threshold=None, substring=spans)
        report = run_dedup(parts, dedup, make_executor(INLINE), folder / method)
        left = after_cuts(folder / method, parts, texts)
        assert [text.split() for text in left] == plain(flat), method
        gone = sum(len(text.split()) for text in flat) - sum(map(len, plain(flat)))
        assert report.steps["duplicate.substring"]["repeated_words"] == gone


def test_the_longest_repeated_substring_goes_whole_and_no_more(corpus: ModuleType, tmp_path: Path) -> None:
    span = corpus.words(73, 1)
    texts = [
        [" ".join(corpus.words(40, 2) + span + corpus.words(40, 3))],
        [],
        [" ".join(corpus.words(40, 4) + span)],
    ]
    parts = corpus.write_parts(tmp_path / "parts", texts)
    for method in ("suffix_array", "windows"):
        spans: Any = DuplicateSpans(method=method)
        run_dedup(parts, Dedup(threshold=None, substring=spans), make_executor(INLINE), tmp_path / method)
        assert after_cuts(tmp_path / method, parts, texts)[1].split() == corpus.words(40, 4)


def test_paragraphs_around_a_cut_stay_apart(corpus: ModuleType, tmp_path: Path) -> None:
    span = " ".join(corpus.words(60, 1))
    texts = [
        [
            span,
            f"Before it.\n\n{span}\n\nAfter it.",
            f"In a {span} line.",
            f"{span}\n\nAfter.",
            f"Before.\n\n{span}",
        ]
    ]
    parts = corpus.write_parts(tmp_path / "parts", texts)
    dedup = Dedup(exact=False, threshold=None, substring=DuplicateSpans(drop_above=None))
    run_dedup(parts, dedup, make_executor(INLINE), tmp_path / "work")
    left = after_cuts(tmp_path / "work", parts, texts)
    assert left == [span, "Before it.\n\nAfter it.", "In a line.", "After.", "Before."]


def test_spans_are_looked_for_in_what_line_cuts_leave(corpus: ModuleType, tmp_path: Path) -> None:
    footer = "This is the footer of every page that we have here."
    a, b = " ".join(corpus.words(30, 1)), " ".join(corpus.words(30, 2))
    start, end = corpus.prose(60, 3), corpus.prose(60, 4)
    texts = [[f"{start}\n{footer}", f"{a} {b}", f"{end}\n{a}\n{footer}\n{b}"]]
    parts = corpus.write_parts(tmp_path / "parts", texts)
    dedup = Dedup(lines=DuplicateLines(), substring=DuplicateSpans())
    run_dedup(parts, dedup, make_executor(INLINE), tmp_path / "work")
    left = after_cuts(tmp_path / "work", parts, texts)
    assert left[2].split() == end.split(), "the span runs across the line that was cut"


INTERVALS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 6)).map(lambda p: (p[0], p[0] + p[1])), max_size=5
)


@given(INTERVALS, INTERVALS)
def test_apart_takes_out_what_is_cut_already(
    spans: list[tuple[int, int]], earlier: list[tuple[int, int]]
) -> None:
    from arriero.data.dedup.rows import join_spans

    spans, earlier = join_spans(spans), join_spans(earlier)

    def inside(found: list[tuple[int, int]]) -> set[int]:
        return {place for start, end in found for place in range(start, end)}

    found = apart(spans, earlier)
    assert inside(found) == inside(spans) - inside(earlier)
    assert sum(end - start for start, end in found) == len(inside(found)) and found == sorted(found)


@given(st.lists(st.integers(0, 20), max_size=6), st.integers(1, 8))
def test_covered_words(places: list[int], words: int) -> None:
    import numpy as np

    found = covered(np.array(places, np.int64), words, 30)
    assert np.flatnonzero(found).tolist() == sorted(
        {p + i for p in places for i in range(words)} & set(range(30))
    )
