"""Other thresholds give what curating anew with them would give."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from tests.data.audit.conftest import Build, Builder

from arriero.cli import cli
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.rethreshold import Rethreshold, changed_settings, filter_settings
from arriero.data.filters import FilterSettings
from arriero.data.filters.rules import Rules
from arriero.errors import ArrieroError

OTHERS = (
    Rules(min_words=20.0),
    Rules(min_words=120.0, max_duplicate_lines=None),
    Rules(presets=["fineweb", "gopher"]),
    Rules(presets=["none"]),
    Rules(presets=["c4"], min_sentences=2.0),
)


@pytest.mark.parametrize("rules", OTHERS)
def test_the_same_as_curating_anew(build: Build, built: Builder, rules: Rules) -> None:
    anew = build(rules=rules, name="anew")
    again = Rethreshold(CuratedCorpus(built.folder), FilterSettings(rules=rules))
    for part, other in zip(again.corpus.parts, CuratedCorpus(anew.folder).parts, strict=True):
        found, expected = again.new_ledger(part), other.ledger()
        assert found.schema == expected.schema
        assert json.dumps(found.to_pylist(), default=str) == json.dumps(expected.to_pylist(), default=str)


def test_the_change_adds_up(built: Builder) -> None:
    corpus = CuratedCorpus(built.folder)
    change = Rethreshold(corpus, FilterSettings(rules=Rules(min_words=20.0))).preview()
    assert change.newly_kept > 0
    assert change.newly_dropped == 0
    assert change.new[""] - change.old[""] == change.newly_kept - change.newly_dropped
    assert sum(change.old.values()) == sum(change.new.values()) == len(corpus)
    assert sum(pair[1] for pair in change.sources.values()) == change.new[""]
    assert change.old["read.truncated"] == change.new["read.truncated"] == 2
    same = Rethreshold(corpus, filter_settings(corpus)).preview()
    assert (same.newly_kept, same.newly_dropped) == (0, 0)
    assert same.old == same.new


def test_settings_from_the_command_line() -> None:
    old = FilterSettings(rules=Rules(min_words=7.0), language={"keep": ["de"]})  # type: ignore[arg-type]
    new = changed_settings(old, sets=["max_top_2gram=null", "language.min_score=0.3"])
    assert new.rules.min_words == 7
    assert new.rules.max_top_2gram is None
    assert new.language is not None
    assert new.language.min_score == 0.3
    assert changed_settings(old, presets=["c4"]).rules == Rules(presets=["c4"])
    assert changed_settings(old, rules={"min_words": 3}).rules == Rules(min_words=3.0)
    assert changed_settings(old, rules={"rules": {"min_words": 3}, "language": None}).language is None


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["min_wodrs=3"], "there is no setting 'rules.min_wodrs'; did you mean 'min_words'"),
        (["min_words"], "should be NAME=VALUE"),
        (["min_words=abc"], "rules.min_words"),
        (["perplexity.head=3"], "no such setting"),
        (["classifiers.0.min_score=3"], "no such setting"),
    ],
)
def test_wrong_settings_are_one_clear_line(sets: list[str], message: str) -> None:
    with pytest.raises(ArrieroError, match=message):
        changed_settings(FilterSettings(), sets=sets)


def test_what_needs_the_text_is_refused(built: Builder) -> None:
    corpus = CuratedCorpus(built.folder)
    with pytest.raises(ArrieroError, match="line_rules change the texts"):
        Rethreshold(corpus, FilterSettings(line_rules={"presets": ["c4"]}))  # type: ignore[arg-type]
    with pytest.raises(ArrieroError, match="count words by 'peel'"):
        Rethreshold(corpus, FilterSettings(rules=Rules(words="space")))


def test_the_command(built: Builder) -> None:
    found = CliRunner().invoke(
        cli, ["data", "rethreshold", str(built.folder), "--set", "min_words=20", "--json"]
    )
    assert found.exit_code == 0, found.output
    data = json.loads(found.output)
    assert data["newly_kept"] > 0
    text = CliRunner().invoke(cli, ["data", "rethreshold", str(built.folder), "--set", "min_words=20"]).output
    assert f"{data['newly_kept']} documents come in" in text
