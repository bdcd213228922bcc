from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.artifacts import InputPath
from arriero.data.audit.ledger import read_rows
from arriero.data.decontaminate.index import Index, write_index
from arriero.data.decontaminate.items import Item, read_items
from arriero.data.decontaminate.normalise import form_of, normalised_words, original_spans
from arriero.data.decontaminate.overlap import Totals, items_in
from arriero.data.decontaminate.plant import holds, plain_words
from arriero.data.decontaminate.run import run_decontamination
from arriero.data.decontaminate.settings import Benchmark, Decontamination
from arriero.data.dedup import steps
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import Dedup, DuplicateLines
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.data.records import Edit, apply_edits
from arriero.errors import ArrieroError

INLINE = ExecutorSettings(kind="inline")
QUESTION = (
    "A farmer has seventeen sheep, and all but nine of them run away: how many sheep are left to him now?"
)


def benchmark(folder: Path, name: str, rows: list[Any]) -> Benchmark:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Benchmark(name=name, path=InputPath(path))


def asked(corpus: ModuleType, folder: Path, **changes: Any) -> Decontamination:
    rows = [
        {"id": "sheep", "question": QUESTION, "answer": "nine"},
        {"id": "absent", "question": corpus.prose(30, 90)},
        {"id": "tiny", "question": "yes or no"},
    ]
    other = [{"text": corpus.prose(20, 91)}, {"text": " ".join(corpus.words(6, 92))}]
    found = [benchmark(folder, "sums", rows), benchmark(folder, "short", other)]
    return Decontamination(benchmarks=found, **changes)


def documents(corpus: ModuleType) -> list[list[Any]]:
    broken = "\n".join(QUESTION.upper().replace(",", " ;").split())
    return [
        [corpus.prose(100, 1), corpus.prose(60, 2) + "\n" + QUESTION + "\n" + corpus.prose(60, 3), None],
        [
            corpus.prose(50, 4) + " " + broken + " the end",
            "A farmer has seventeen sheep.",
            " ".join(corpus.words(6, 92)),
        ],
    ]


def decisions(work: Path, kind: str = "decisions") -> list[tuple[str, dict[str, Any]]]:
    return [(path.stem, row) for path in sorted((work / kind).iterdir()) for row in read_rows(path)]


def test_documents_that_hold_an_item_are_dropped_and_named(corpus: ModuleType, tmp_path: Path) -> None:
    parts = corpus.write_parts(tmp_path / "parts", documents(corpus))
    report = run_decontamination(parts, asked(corpus, tmp_path), make_executor(INLINE), tmp_path / "work")
    found = [(part, row["row"], row["survivor"], row["step"]) for part, row in decisions(tmp_path / "work")]
    assert found == [
        ("part-000", 1, "sums/sheep", "contaminated"),
        ("part-001", 0, "sums/sheep", "contaminated"),
        ("part-001", 2, "short/1", "contaminated"),
    ]
    assert report.contaminated_documents == 3
    sums, short = report.record["benchmarks"]["sums"], report.record["benchmarks"]["short"]
    assert (sums["items"], sums["looked_for"], sums["hit"], sums["documents"]) == (3, 2, ["sheep"], 2)
    assert (short["looked_for"], short["hit"]) == (2, ["1"])
    assert short["mean_coverage"] == {"6": 1.0, "8": 0.0, "13": 0.0}
    lines = [json.loads(line) for line in (tmp_path / "work" / "items.jsonl").read_text().splitlines()]
    assert [line["item"] for line in lines] == ["sheep", "1"]
    words = len(plain_words(QUESTION + " nine"))
    assert lines[0]["coverage"]["13"] == (words - 1 - 12) / (words - 12), "all but the n-gram with the answer"
    test = report.record["self_test"]
    assert test["planted"] == 16 and test["recall"] == 1.0 and test["precision"] == 1.0
    assert set(test["recall_by_way"].values()) == {1.0}


def test_cuts_take_the_item_out_and_leave_the_rest(corpus: ModuleType, tmp_path: Path) -> None:
    given = documents(corpus)
    parts = corpus.write_parts(tmp_path / "parts", given)
    run_decontamination(
        parts, asked(corpus, tmp_path, action="cut"), make_executor(INLINE), tmp_path / "work"
    )
    assert decisions(tmp_path / "work") == []
    cut = decisions(tmp_path / "work", "line_edits")
    for part, row in cut:
        text = given[int(part[-1])][row["row"]]
        left = apply_edits(text, [Edit(row["start"], row["end"], "", row["reason"])])
        assert not holds(left, QUESTION, asked(corpus, tmp_path)), "the item is gone"
        gone = plain_words(text[row["start"] : row["end"]])
        assert gone in (plain_words(QUESTION), corpus.words(6, 92)), "and nothing else"
    assert len(cut) == 3


def test_what_deduplication_dropped_or_cut_is_not_found(corpus: ModuleType, tmp_path: Path) -> None:
    footer = QUESTION
    texts = [
        [corpus.prose(100, 1) + "\n" + footer],
        [corpus.prose(100, 2) + "\n" + footer + "\n" + corpus.prose(9, 3)],
    ]
    parts = corpus.write_parts(tmp_path / "parts", texts)
    run_dedup(parts, Dedup(lines=DuplicateLines()), make_executor(INLINE), tmp_path / "dedup")
    given = asked(corpus, tmp_path)
    run_decontamination(parts, given, make_executor(INLINE), tmp_path / "all")
    assert len(decisions(tmp_path / "all")) == 2
    run_decontamination(parts, given, make_executor(INLINE), tmp_path / "work", dedup=tmp_path / "dedup")
    assert [part for part, _ in decisions(tmp_path / "work")] == ["part-000"]


def test_common_ngrams_are_no_evidence_when_asked(corpus: ModuleType, tmp_path: Path) -> None:
    parts = corpus.write_parts(tmp_path / "parts", [[corpus.prose(20, n) + " " + QUESTION for n in range(5)]])
    strict = run_decontamination(parts, asked(corpus, tmp_path), make_executor(INLINE), tmp_path / "one")
    assert strict.contaminated_documents == 5
    loose = run_decontamination(
        parts, asked(corpus, tmp_path, common=4), make_executor(INLINE), tmp_path / "two"
    )
    assert loose.contaminated_documents == 0


@pytest.mark.slow
def test_the_same_bytes_for_any_order_and_number_of_workers(
    corpus: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = corpus.write_parts(tmp_path / "parts", documents(corpus))
    given = asked(corpus, tmp_path)
    run_decontamination(parts, given, make_executor(INLINE), tmp_path / "one")
    monkeypatch.setattr(steps, "SMALL", 0)
    pool = make_executor(ExecutorSettings(kind="pool", workers=2))
    run_decontamination(parts[::-1], given, pool, tmp_path / "two")
    assert corpus.corpus_files(tmp_path / "one") == corpus.corpus_files(tmp_path / "two")
    assert (tmp_path / "one" / "items.jsonl").read_bytes() == (tmp_path / "two" / "items.jsonl").read_bytes()


def test_nothing_to_look_for_is_said(corpus: ModuleType, tmp_path: Path) -> None:
    parts = corpus.write_parts(tmp_path / "parts", [["x"]])
    given = Decontamination(benchmarks=[benchmark(tmp_path, "tiny", [{"q": "yes or no"}])])
    with pytest.raises(ArrieroError, match="no item of tiny has 5 words"):
        run_decontamination(parts, given, make_executor(INLINE), tmp_path / "work")
    absent = Benchmark(name="absent", path=InputPath(tmp_path / "absent.jsonl"))
    with pytest.raises(ArrieroError, match=r"benchmark 'absent': .*absent\.jsonl cannot be read"):
        run_decontamination(
            parts, Decontamination(benchmarks=[absent]), make_executor(INLINE), tmp_path / "work"
        )


WORDS = st.sampled_from(["ab", "cd", "é", "ef.", "GH!", "天", "ij's", "ſ", "12", "İx", "ﬁ"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=1, max_size=14), min_size=1, max_size=4), st.lists(WORDS, max_size=40),
       st.sampled_from([0.3, 0.5, 1.0]))  # fmt: skip
def test_found_items_are_those_of_a_plain_comparison(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], document: list[str], overlap: float
) -> None:
    folder = tmp_path_factory.mktemp("index")
    chosen = Decontamination(
        benchmarks=[Benchmark(name="b", path=InputPath(folder))], ngrams=[2, 5], min_words=1, overlap=overlap
    )
    items = [Item("b", str(n), " ".join(text)) for n, text in enumerate(texts)]
    write_index(folder, items, chosen.ngrams, chosen.min_words)
    index = Index(folder)
    text = " ".join(document)
    found = {one.item for one in items_in(index.find(*normalised_words(text)), index, Totals(index), overlap)}
    index.close()
    plain = {n for n, item in enumerate(items) if plain_words(item.text) and holds(text, item.text, chosen)}
    assert found == plain


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_spans_of_words_lead_back_to_the_original(text: str) -> None:
    form, words = normalised_words(text)
    spans = [(n, n + 1) for n in range(len(words))]
    for (start, end), word in zip(original_spans(text, form, words, spans), plain_words(text), strict=True):
        assert word in form_of(text[start:end]), "the word lies in what would be cut"
        assert not form_of(text[start]).isspace()


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    rows = [{"id": 7, "q": "first, question", "more": {"a": ["x", 1, "y"]}}, {"id": 8, "q": "second"}]
    jsonl = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(jsonl)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl.encode()))
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "data": rows}))
    (tmp_path / "a.csv").write_text('id,q\n7,"first, question"\n8,second\n')
    (tmp_path / "a.tsv").write_text("id\tq\n7\tfirst, question\n8\tsecond\n")
    (tmp_path / "a.txt").write_text("first, question\n\nsecond\n")

    def texts(name: str, *fields: str) -> list[tuple[str, str]]:
        found = read_items(Benchmark(name="b", path=InputPath(tmp_path / name), fields=list(fields)))
        return [(item.name, item.text) for item in found]

    for name in ("a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.tsv"):
        assert texts(name, "q") == [("7", "first, question"), ("8", "second")], name
    assert texts("a.jsonl") == [("7", "first, question x y"), ("8", "second")]
    assert texts("a.txt") == [("0", "first, question"), ("2", "second")]
    with pytest.raises(ArrieroError, match=r"item 1 has no field 'more\.a'; it has: id, q"):
        texts("a.jsonl", "more.a")
    with pytest.raises(ArrieroError, match="plain text and has no fields"):
        texts("a.txt", "q")
