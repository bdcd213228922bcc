from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from arriero.data.audit.ledger import read_rows
from arriero.data.dedup import steps
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import (
    Dedup,
    DuplicateBooks,
    DuplicateLines,
    DuplicateSpans,
    SemanticDuplicates,
)  # fmt: skip
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.data.execute.tasks import Task
from arriero.errors import ArrieroError, Interrupted

INLINE = ExecutorSettings(kind="inline")
EVERYTHING = Dedup(
    lines=DuplicateLines(drop_above=0.9), paragraphs=DuplicateLines(), substring=DuplicateSpans(words=20),
    books=DuplicateBooks(min_words=500), semantic=SemanticDuplicates(dimensions=64, similarity=0.97),
    memory_bytes=1 << 20,
)  # fmt: skip


def decisions(work: Path) -> dict[str, dict[str, Any]]:
    """part/row -> decision."""
    return {
        f"{path.stem}/{row['row']}": row
        for path in sorted((work / "decisions").iterdir())
        for row in read_rows(path)
    }


def edits(work: Path) -> dict[str, list[tuple[int, int, str]]]:
    found: dict[str, list[tuple[int, int, str]]] = {}
    for path in sorted((work / "line_edits").iterdir()):
        for row in read_rows(path):
            found.setdefault(f"{path.stem}/{row['row']}", []).append(
                (row["start"], row["end"], row["reason"])
            )
    return found


def mixed_documents(corpus: ModuleType) -> list[list[Any]]:
    """Three parts with every kind of duplicate."""
    base = corpus.prose(200, 1)
    near = base.replace(base.split()[50], "changed", 1)
    book = corpus.prose(900, 2)
    footer = "All rights reserved by the makers of this page, thank you."
    shared = " ".join(corpus.words(40, 3))
    return [
        [base, None, corpus.prose(150, 4) + "\n" + footer, book, corpus.prose(80, 5) + " " + shared],
        [near, corpus.prose(150, 6) + "\n" + footer, base, shared + " " + corpus.prose(90, 7)],
        [
            book + "\n" + corpus.prose(300, 8),
            corpus.prose(150, 9) + "\n" + footer,
            None,
            base + " and more words",
        ],
    ]


def test_every_kind_of_duplicate_is_found_once(corpus: ModuleType, tmp_path: Path) -> None:
    parts = corpus.write_parts(tmp_path / "parts", mixed_documents(corpus))
    report = run_dedup(parts, EVERYTHING, make_executor(INLINE), tmp_path / "work")
    found = decisions(tmp_path / "work")
    assert {key: row["step"] for key, row in found.items()} == {
        "part-000/0": "duplicate.near", "part-001/0": "duplicate.near", "part-001/2": "duplicate.exact",
        "part-000/3": "duplicate.book",
    }  # fmt: skip
    assert found["part-001/2"]["survivor"] == "part-000/0"
    assert found["part-001/0"]["survivor"] == "part-002/3", "the longest stays"
    assert found["part-001/0"]["cluster"] == 0 and found["part-001/0"]["cluster_size"] == 3
    assert found["part-000/3"]["survivor"] == "part-002/0" and found["part-000/3"]["value"] >= 0.9
    cut = edits(tmp_path / "work")
    assert set(cut) == {"part-001/1", "part-001/3", "part-002/1"}
    assert [reason for _, _, reason in cut["part-001/1"]] == ["duplicate.line"]
    assert [reason for _, _, reason in cut["part-001/3"]] == ["duplicate.substring"]
    total = report.total
    assert total.documents == 11 and total.kept == 7
    assert total.documents == total.kept + sum(n for n, _ in total.dropped.values())


def test_bytes_are_the_same_for_any_order_and_memory(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = corpus.write_parts(tmp_path / "parts", mixed_documents(corpus))
    run_dedup(parts, EVERYTHING, make_executor(INLINE), tmp_path / "one")
    monkeypatch.setattr(steps, "_ROOM", 4_000)  # so that there are many partitions
    windows = EVERYTHING.model_copy(update={"substring": DuplicateSpans(words=20, method="windows")})
    run_dedup([parts[2], parts[0], parts[1]], windows, make_executor(INLINE), tmp_path / "two")
    one, two = corpus.corpus_files(tmp_path / "one"), corpus.corpus_files(tmp_path / "two")
    assert one.pop("report").replace(b"suffix_array", b"windows") == two.pop("report")
    assert one == two


@pytest.mark.slow
def test_bytes_are_the_same_for_any_number_of_workers(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "SMALL", 0)
    parts = corpus.write_parts(tmp_path / "parts", mixed_documents(corpus))
    some = Dedup(lines=DuplicateLines())
    run_dedup(parts, some, make_executor(INLINE), tmp_path / "one")
    pool = make_executor(ExecutorSettings(kind="pool", workers=3))
    run_dedup(parts[::-1], some, pool, tmp_path / "two")
    assert corpus.corpus_files(tmp_path / "one") == corpus.corpus_files(tmp_path / "two")


class Stopping:
    """Runs tasks inline; ends after some, as a kill would."""

    workers = 1

    def __init__(self, tasks: int) -> None:
        self.left = tasks

    def run(self, work: Any, tasks: Any, *, done: Any, tick: Any, stop: Any) -> None:
        for task in tasks:
            assert isinstance(task, Task)
            if not done(task):
                if not self.left:
                    raise Interrupted("enough")
                self.left -= 1
                work(task)


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = corpus.write_parts(tmp_path / "parts", mixed_documents(corpus))
    run_dedup(parts, EVERYTHING, make_executor(INLINE), tmp_path / "whole")
    rounds = 0
    while True:
        rounds += 1
        some = Stopping(random.Random(rounds).randint(1, 9))
        monkeypatch.setattr(steps, "InlineExecutor", lambda some=some: some)
        try:
            run_dedup(parts, EVERYTHING, some, tmp_path / "pieces")
            break
        except Interrupted:
            continue
    assert rounds > 10
    assert corpus.corpus_files(tmp_path / "whole") == corpus.corpus_files(tmp_path / "pieces")
    assert not list((tmp_path / "pieces").rglob("*.partial")), "no temporary file is left"


def test_other_settings_begin_anew(corpus: ModuleType, tmp_path: Path) -> None:
    parts = corpus.write_parts(tmp_path / "parts", mixed_documents(corpus))
    work = tmp_path / "work"
    run_dedup(parts, EVERYTHING, make_executor(INLINE), work)
    run_dedup(parts, Dedup(threshold=None), make_executor(INLINE), work)
    assert {row["step"] for row in decisions(work).values()} == {"duplicate.exact"}
    assert edits(work) == {}
    run_dedup(parts[:2], Dedup(threshold=None), make_executor(INLINE), work)
    assert len(list((work / "decisions").iterdir())) == 2


def test_no_parts_and_empty_parts(corpus: ModuleType, tmp_path: Path) -> None:
    report = run_dedup([], EVERYTHING, make_executor(INLINE), tmp_path / "none")
    assert report.total.documents == 0
    parts = corpus.write_parts(tmp_path / "parts", [[], [None, None], ["a text of a few words"], [""], []])
    for method in ("windows", "suffix_array"):
        settings = EVERYTHING.model_copy(update={"substring": DuplicateSpans(method=method)})  # type: ignore[arg-type]
        report = run_dedup(parts, settings, make_executor(INLINE), tmp_path / method)
        assert report.total.documents == 2 and report.total.kept == 2


def test_the_survivor_is_chosen_by_the_declared_rule(corpus: ModuleType, tmp_path: Path) -> None:
    base = corpus.prose(200, 1)
    documents = [
        {"text": base, "date": "2020-01-01", "m_quality_test": 0.9},
        {"text": base + " a few words more", "date": "2019-01-01", "m_quality_test": 0.1},
        {"text": base + " one", "date": "Tue, 02 Mar 2021 10:00:00 GMT", "m_quality_test": float("nan")},
    ]
    parts = corpus.write_parts(tmp_path / "parts", [documents])
    stays = {"first": 0, "longest": 1, "newest": 2, "quality": 0}
    for rule, row in stays.items():
        quality = "m_quality_test" if rule == "quality" else None
        work = tmp_path / rule
        run_dedup(parts, Dedup(survivor=rule, quality=quality), make_executor(INLINE), work)  # type: ignore[arg-type]
        assert {d["survivor"] for d in decisions(work).values()} == {f"part-000/{row}"}, rule
    with pytest.raises(ArrieroError, match="no column 'm_quality_absent'"):
        run_dedup(
            parts,
            Dedup(survivor="quality", quality="m_quality_absent"),
            make_executor(INLINE),
            tmp_path / "x",
        )


def test_alarms_name_large_clusters_and_sources_that_shrink(corpus: ModuleType, tmp_path: Path) -> None:
    text = corpus.prose(100, 1)
    documents = [{"text": text, "source": "copies"}] * 5 + [corpus.prose(100, 2)]
    parts = corpus.write_parts(tmp_path / "parts", [documents])
    report = run_dedup(parts, Dedup(max_cluster=4), make_executor(INLINE), tmp_path / "work")
    assert "a cluster of 5 documents" in report.alarms[0]
    assert "source 'copies' loses 80.0%" in report.alarms[1] and len(report.alarms) == 2
    again = run_dedup(parts, Dedup(max_cluster=4), make_executor(INLINE), tmp_path / "work")
    assert again.record() == report.record(), "a finished run is read back"


def test_signatures_of_another_width_are_refused(corpus: ModuleType, tmp_path: Path) -> None:
    parts = corpus.write_parts(tmp_path / "parts", [["some text"]])
    with pytest.raises(ArrieroError, match="signatures of 112 values; bands 20 x rows 8"):
        run_dedup(parts, Dedup(bands=20), make_executor(INLINE), tmp_path / "work")


def test_two_parts_of_one_name_are_refused(corpus: ModuleType, tmp_path: Path) -> None:
    one = corpus.write_parts(tmp_path / "a", [["x"]])
    other = corpus.write_parts(tmp_path / "b", [["x"]])
    with pytest.raises(ArrieroError, match="parts of one name"):
        run_dedup([*one, *other], Dedup(), make_executor(INLINE), tmp_path / "work")
