"""The drop report: it closes, and it is loud when it does not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tests.data.audit.conftest import Build, Builder, Given, documents

from arriero.data.audit.alarms import AlarmSettings
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.inspect.service import Inspection
from arriero.data.audit.ledger import write_table
from arriero.data.audit.report import Written, build_report, write_report
from arriero.data.audit.rethreshold import Rethreshold, filter_settings
from arriero.data.audit.samples import SampleSettings, write_samples
from arriero.data.audit.schema import DECISIONS, ledger_schema
from arriero.data.facts import FACTS
from arriero.data.pipeline.part_writer import PartWriter
from arriero.errors import ArrieroError, DamagedArtifactError


def test_every_document_is_counted_once(built: Builder) -> None:
    report = build_report(CuratedCorpus(built.folder))
    given = documents()
    expected = Counter(
        one.dropped[0] if one.dropped else row["reason"] or "kept"
        for one, row in zip(given, built.rows, strict=True)
    )
    data = report.to_json()
    found = {reason: sums["documents"] for reason, sums in data["total"]["dropped"].items()}
    assert found | {"kept": data["total"]["kept"]["documents"]} == expected
    assert data["total"]["in"]["documents"] == len(given)
    assert data["total"]["in"]["bytes"] == sum(row["raw_bytes"] for row in built.rows)
    assert data["total"]["in"]["text_bytes"] == sum(
        len(one.text.encode()) for one in given if not one.refused
    )
    assert sum(s["in"]["documents"] for s in data["sources"].values()) == len(given)
    assert set(data["sources"]) == {"web", "forum"}
    kept_by_source = {name: s["kept"]["documents"] for name, s in data["sources"].items()}
    assert sum(kept_by_source.values()) == expected["kept"]
    assert {"en", "de"} == set(data["languages"])
    assert sum(w["documents"] for w in data["splits"].values()) == expected["kept"]


def test_the_funnel_has_the_order_of_the_steps(built: Builder) -> None:
    data = build_report(CuratedCorpus(built.folder)).to_json()
    stages = [step["stage"] for step in data["funnel"]]
    assert stages == ["read", "extract", "rules", "duplicate"]
    left = data["total"]["in"]["documents"]
    for step in data["funnel"]:
        assert step["in"] == left
        left -= step["dropped"]
    assert left == data["total"]["kept"]["documents"]


def test_edits_pii_licences_and_clusters(built: Builder) -> None:
    data = build_report(CuratedCorpus(built.folder)).to_json()
    assert data["edits"] == {
        "lines.policy": {"edits": 1, "characters": 20}, "pii.email": {"edits": 1, "characters": 19 - len("<email>")},
    }  # fmt: skip
    assert data["pii"] == {"email": 1}
    kept = data["total"]["kept"]["documents"]
    assert data["licenses"] == [{"license": "CC-BY-4.0", "evidence": "declared", "documents": kept}]
    assert data["clusters"] == {"clusters": 1, "dropped": 2, "largest": [{"cluster": 4, "size": 3}]}
    cut = data["total"]["kept"]["kept_bytes"] - data["total"]["final_bytes"]
    assert cut == 10  # the span that a global step cut


def test_parts_do_not_matter(build: Build, built: Builder) -> None:
    other = build(rows_a_part=3)
    assert (
        build_report(CuratedCorpus(other.folder)).to_json()
        == build_report(CuratedCorpus(built.folder)).to_json()
    )


def test_a_report_that_does_not_close_is_an_error(build: Build) -> None:
    corpus = CuratedCorpus(build().folder)
    kept = build_report(corpus).total.kept.documents
    with pytest.raises(
        ArrieroError, match=rf"does not close: {kept} documents were kept, its shards hold {kept - 1}.*\+1"
    ):
        build_report(corpus, written={"train": Written(kept - 1, 5)})


def test_a_document_cannot_be_dropped_twice(build: Build) -> None:
    builder = build()
    corpus = CuratedCorpus(builder.folder)
    refused = next(n for n, row in enumerate(builder.rows) if row["stage"])
    part = corpus.at(refused)
    decision = {"row": part.row, "step": "duplicate.near"}
    path = builder.folder / "decisions" / f"{part.part.name}.parquet"
    write_table(path, DECISIONS, [decision])
    with pytest.raises(
        DamagedArtifactError,
        match=r"does not close: row \d+ of .* was dropped by .* and again by duplicate.near",
    ):
        build_report(CuratedCorpus(builder.folder))
    write_table(path, DECISIONS, [decision, decision])
    with pytest.raises(DamagedArtifactError, match="twice"):
        build_report(CuratedCorpus(builder.folder))
    write_table(path, DECISIONS, [{"row": 1000, "step": "duplicate.near"}])
    with pytest.raises(DamagedArtifactError, match="row 1000 of"):
        build_report(CuratedCorpus(builder.folder))


def test_a_part_that_lies_about_its_rows(build: Build) -> None:
    folder = build().folder
    path = next((folder / "parts").iterdir()) / "part.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"rows": about["rows"] + 1}))
    with pytest.raises(DamagedArtifactError, match="has 11 rows, its part says 12"):
        build_report(CuratedCorpus(folder), written={})


def test_alarms(build: Build) -> None:
    corpus = CuratedCorpus(build().folder)
    report = build_report(
        corpus,
        alarms=AlarmSettings(source_drop=0.5, rule_drop=0.1, refused=0.1, cluster=2, least_documents=5),
    )
    kinds = {(alarm["kind"], alarm["of"]) for alarm in report.alarms}
    assert ("source_drop", "forum") in kinds
    assert ("refused", "forum") in kinds
    assert ("cluster", "4") in kinds
    assert ("source_drop", "web") not in kinds
    assert any(kind == "rule_drop" for kind, _ in kinds)
    quiet = AlarmSettings(source_drop=None, rule_drop=None, refused=None, cluster=None, language_shift=None)
    assert build_report(corpus, alarms=quiet).alarms == []


def test_the_file(built: Builder, tmp_path: Path) -> None:
    report = build_report(CuratedCorpus(built.folder))
    path = write_report(report, tmp_path)
    assert json.loads(path.read_text()) == report.to_json()


def test_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="holds no ledger"):
        CuratedCorpus(tmp_path)


def test_a_corpus_of_nothing_but_refusals_and_an_empty_part(build: Build) -> None:
    builder = build([Given(source="web", refused="read.truncated") for _ in range(3)])
    empty = builder.folder / "parts" / "none-00000"
    empty.mkdir()
    with PartWriter(empty, ledger_schema(FACTS, ["perplexity"]), 112) as writer:
        writer.finish({"source": "none"})
    corpus = CuratedCorpus(builder.folder)
    data = build_report(corpus).to_json()
    assert data["total"]["in"]["documents"] == 3
    assert data["total"]["kept"]["documents"] == 0
    assert data["total"]["dropped"]["read.truncated"]["documents"] == 3
    page = Inspection(corpus)
    assert page.answer("overview", {})["records"] == 3
    for figure in ("f_words", "m_perplexity", "lang_score"):
        assert (
            page.answer("histogram", {"figure": figure})["missing"]
            + sum(page.answer("histogram", {"figure": figure})["by_others"])
            == 3
        )
    assert (
        page.answer("moved", {"figure": "f_plain_words", "reason": "gopher.min_words", "threshold": "3"})[
            "newly_kept"
        ]
        == 0
    )
    assert len(page.answer("documents", {})["documents"]) == 3
    assert page.answer("document", {"number": "1"})["text"] is None
    change = Rethreshold(corpus, filter_settings(corpus)).preview()
    assert change.old == change.new == {"read.truncated": 3}
    assert write_samples(corpus, SampleSettings(), 0) == 3
