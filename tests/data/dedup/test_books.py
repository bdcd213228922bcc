from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.data.audit.ledger import read_rows
from arriero.data.dedup import books
from arriero.data.dedup.books import OVERLAP, contained
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import Dedup, DuplicateBooks
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.errors import ArrieroError

INLINE = ExecutorSettings(kind="inline")


def test_contained_books_fall_to_the_longest(corpus: ModuleType, tmp_path: Path) -> None:
    pool = corpus.words(20_000, 1)
    whole = " ".join(pool[:9000])
    half = " ".join(pool[:4500])
    edition = " ".join(corpus.words(200, 2) + pool[100:9000])
    little = " ".join(pool[:3000] + pool[9000:12_000])
    short = " ".join(pool[:900])
    texts = [[half, edition], [little, {"text": half + " x", "source": "news"}], [short, None, whole]]
    parts = corpus.write_parts(tmp_path / "parts", texts)
    settings = Dedup(threshold=None, books=DuplicateBooks(min_words=1000, sources=["web"]))
    report = run_dedup(parts, settings, make_executor(INLINE), tmp_path / "work")
    found = {
        (path.stem, row["row"]): row
        for path in (tmp_path / "work" / "decisions").iterdir()
        for row in read_rows(path)
    }
    assert set(found) == {("part-000", 0), ("part-002", 2)}, "half the book, and the older edition"
    assert found["part-002", 2]["survivor"] == found["part-000", 0]["survivor"] == "part-000/1"
    assert found["part-002", 2]["value"] == pytest.approx(8896 / 8996, abs=1e-3)
    assert report.steps["duplicate.book"]["books"] == 4


EDGES = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda p: p[0] < p[1]), st.integers(1, 9)
)


@given(EDGES, st.lists(st.integers(10, 14), min_size=7, max_size=7))
def test_nobody_falls_to_one_that_fell(edges: dict[tuple[int, int], int], sizes: list[int]) -> None:
    table = np.array([(a, b, n) for (a, b), n in edges.items()], OVERLAP)
    rows = np.unique(np.concatenate([table["a"], table["b"]]))
    size = np.array(sizes, np.int64)[rows]
    drops = contained(table, rows, size, 0.5)
    dropped = set(drops["row"].tolist())
    for drop in drops:
        row, survivor = int(drop["row"]), int(drop["survivor"])
        assert survivor not in dropped and sizes[survivor] >= sizes[row]
        assert drop["value"] == edges[min(row, survivor), max(row, survivor)] / sizes[row]
    for a, b in edges:
        assert a in dropped or b in dropped, "of two that overlap one goes"


def test_many_copies_need_not_all_be_paired(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "_ALL_PAIRS", 3)
    text = corpus.words(1500, 1)
    parts = corpus.write_parts(
        tmp_path / "parts", [[" ".join(text + corpus.words(5, 10 + n)) for n in range(8)]]
    )
    settings = Dedup(threshold=None, books=DuplicateBooks(min_words=1000))
    report = run_dedup(parts, settings, make_executor(INLINE), tmp_path / "work")
    assert report.total.kept == 1


def test_books_shorter_than_a_shingle_are_refused(tmp_path: Path) -> None:
    from arriero.data.facts import FactsSettings

    with pytest.raises(ArrieroError, match=r"books.min_words: 100 is below shingle_words: 101"):
        books.check_books(type("F", (), {"shingle_words": 101})(), DuplicateBooks(min_words=100))  # type: ignore[arg-type]
    books.check_books(FactsSettings(), DuplicateBooks(min_words=100))
