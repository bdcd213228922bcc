"""A corpus rewritten under other thresholds is the corpus that curating anew with them makes, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.data.audit.curating import curate, write_sources

from arriero.artifacts import Artifact
from arriero.cli import cli
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.report import build_report
from arriero.data.audit.rethreshold import Rethreshold, changed_settings, filter_settings
from arriero.data.audit.rewrite import write_rethresholded
from arriero.errors import ArrieroError

OLD = {"rules": {"presets": ["gopher"], "min_words": 90}}
NEW = {"rules": {"presets": ["gopher"], "min_words": 40}}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest and parts' own papers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def again(folder: Path, *sets: str) -> Rethreshold:
    corpus = CuratedCorpus(folder)
    return Rethreshold(corpus, changed_settings(filter_settings(corpus), sets=sets))


def test_the_same_bytes_as_curating_anew(tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "raw")
    old, new = curate(tmp_path / "old", sources, **OLD), curate(tmp_path / "new", sources, **NEW)
    out = tmp_path / "out"
    audit = write_rethresholded(again(old, "min_words=40"), out)
    found, expected = contents(out), contents(new)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert audit.report.total.kept.documents > build_report(CuratedCorpus(old)).total.kept.documents
    assert Artifact.open(out, hashes=True).manifest.settings["rules"]["min_words"] == 40
    for name, split in Artifact.open(out).manifest.spec["splits"].items():
        assert split["files"] == len(list(out.glob(f"{name}-*.jsonl.zst"))) > 0
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_there_and_back(tmp_path: Path) -> None:
    old = curate(tmp_path / "old", write_sources(tmp_path / "raw"), **OLD)
    write_rethresholded(again(old, "min_words=40"), tmp_path / "there")
    write_rethresholded(again(tmp_path / "there", "min_words=90"), tmp_path / "back")
    assert contents(tmp_path / "back") == contents(old)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    old = curate(tmp_path / "old", write_sources(tmp_path / "raw"), **OLD)
    with pytest.raises(ArrieroError, match="exists already"):
        write_rethresholded(again(old, "min_words=40"), tmp_path)
    with pytest.raises(ArrieroError, match="nothing is left"):
        write_rethresholded(again(old, "min_words=100000"), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert not list(tmp_path.glob(".none*"))
    (old / "manifest.json").unlink()
    with pytest.raises(ArrieroError, match="no manifest"):
        again(old, "min_words=40")


def test_the_commands_over_a_real_corpus(tmp_path: Path) -> None:
    old = curate(tmp_path / "old", write_sources(tmp_path / "raw"), **OLD)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["data", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    stored, counted = (json.loads(run("report", str(old), "--json", *more)) for more in ((), ("--check",)))
    assert stored.pop("alarms") == counted.pop("alarms")
    assert stored == counted
    assert "From what came in to what was kept" in run("report", str(old), "--full")
    assert "come in" in run("rethreshold", str(old), "--set", "min_words=40", "--out", str(tmp_path / "out"))
    assert (
        json.loads((tmp_path / "out" / "report.json").read_text())["total"]["kept"]["documents"]
        > stored["total"]["kept"]["documents"]
    )
    assert "the bytes give the same text today" in run("trace", str(old), "notes:notes.jsonl:0")
