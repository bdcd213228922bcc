"""The raw record behind a ledger row: there, changed, or gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.audit.curating import curate, write_sources

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.inspect.document import document_view, raw_view
from arriero.data.audit.trace import Trace, trace_row
from arriero.data.pipeline.texts import iter_framed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    raw = tmp_path_factory.mktemp("raw")
    return raw, curate(tmp_path_factory.mktemp("run") / "a", write_sources(raw))


def traces(folder: Path, raw: Path | None = None) -> list[Trace]:
    corpus = CuratedCorpus(folder)
    return [trace_row(corpus, corpus.at(number), raw=raw) for number in range(len(corpus))]


def test_every_record_is_found_again(made: tuple[Path, Path]) -> None:
    raw, folder = made
    found = traces(folder)
    assert {trace.ledger["source"] for trace in found} == {"notes", "pages"}
    assert {(t.raw.state, t.raw.why) for t in found if t.texts} == {
        ("matches", "the bytes give the same text today")
    }
    refused = [t for t in found if t.texts is None]
    assert len(refused) == 1
    assert refused[0].raw.state == "matches", refused[0].raw.why
    for trace in found:
        if trace.ledger["source"] == "pages":
            assert trace.raw.content == trace.raw.path.read_bytes()  # type: ignore[union-attr]
        elif trace.texts:
            whole = (raw / "notes.jsonl").read_bytes()
            line = whole[trace.ledger["offset"] :][: trace.ledger["length"]]
            assert trace.ledger["url"].encode() in line


def test_personal_data_is_shown_nowhere_but_in_the_raw_record(made: tuple[Path, Path]) -> None:
    corpus = CuratedCorpus(made[1])
    number = next(t.row.number for t in traces(made[1]) if t.ledger["pii"])
    seen = document_view(corpus, number, None)
    assert "jane.miller@" not in str({k: v for k, v in seen.items() if k != "raw"})
    assert seen["raw"]["content"] is None
    for path in made[1].rglob("*.jsonl.zst"):
        for line in iter_framed(path):
            assert "jane.miller@" not in str(line), path
    assert "jane.miller@" in raw_view(trace_row(corpus, corpus.at(number)))["content"]


def test_a_file_that_was_changed_or_has_gone(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    folder = curate(tmp_path / "run", write_sources(raw))
    notes = raw / "notes.jsonl"
    before = notes.read_bytes()
    target = next(t for t in traces(folder) if t.ledger["source"] == "notes" and t.texts)
    place = target.ledger["offset"] + 40
    notes.write_bytes(before[:place] + b"X" + before[place + 1 :])
    states = {t.ledger["id"]: t.raw for t in traces(folder) if t.ledger["source"] == "notes"}
    changed = [id for id, check in states.items() if check.state == "changed"]
    assert changed == [target.ledger["id"]]
    assert "gives another text" in states[changed[0]].why
    notes.write_bytes(before[: len(before) // 2])
    assert "changed" in {t.raw.state for t in traces(folder) if t.ledger["source"] == "notes"}
    notes.unlink()
    (raw / "pages" / "1.html").unlink()
    found = traces(folder)
    assert {t.raw.state for t in found if t.ledger["source"] == "notes"} == {"gone"}
    assert sorted(t.raw.state for t in found if t.ledger["source"] == "pages") == [
        "gone",
        "matches",
        "matches",
    ]


def test_files_that_have_moved(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    folder = curate(tmp_path / "run", write_sources(raw))
    raw.rename(tmp_path / "elsewhere")
    corpus = CuratedCorpus(folder)
    page = next(t for t in traces(folder) if t.ledger["source"] == "pages")
    assert page.raw.state == "gone"
    assert trace_row(corpus, page.row, raw=tmp_path / "elsewhere" / "pages").raw.state == "matches"
    note = next(t for t in traces(folder) if t.ledger["source"] == "notes" and t.texts)
    assert trace_row(corpus, note.row, raw=tmp_path / "elsewhere" / "notes.jsonl").raw.state == "matches"
    assert trace_row(corpus, note.row, raw=tmp_path / "elsewhere").raw.state == "matches"
