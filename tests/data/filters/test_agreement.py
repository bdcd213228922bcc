"""The filters decide as datatrove 0.10.1 does. Its decisions on 110 texts (55 and a damaged copy of each) were written by

python benchmarks/filters_agreement.py --golden ...
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from arriero.data.facts import FactsSettings, measure
from arriero.data.filters import Doc, FilterSettings, Rules, build_editors
from arriero.data.filters.language import LanguageFilter
from arriero.data.filters.presets import PRESETS
from arriero.data.filters.rule_filter import RuleFilter
from arriero.data.filters.settings import Language, LineRules
from arriero.data.records import apply_edits

GOLDEN = Path(__file__).parents[1] / "curation" / "filters_datatrove.jsonl.gz"
REPETITION = {rule.name for rule in PRESETS["gopher"] if "duplicate" in rule.name or "_top_" in rule.name}
QUALITY = {rule.name for rule in PRESETS["gopher"]} - REPETITION
SETTINGS = {
    "gopher_quality": Rules(presets=["gopher"], **dict.fromkeys(REPETITION)),
    "gopher_repetition": Rules(presets=["gopher"], **dict.fromkeys(QUALITY)),
    "c4": Rules(presets=["c4"]),
    "c4_fineweb": Rules(presets=["fineweb-c4"]),
    "fineweb": Rules(presets=["fineweb"]),
}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with gzip.open(GOLDEN, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def columns(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {f"f_{name}": value for name, value in measure(row["text"], FactsSettings()).values.items()}
        for row in rows
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_filter_decides_as_datatroves(
    name: str, rows: list[dict[str, str]], columns: list[dict[str, Any]]
) -> None:
    judge = RuleFilter(SETTINGS[name]).judge
    ours = [judge(each) is None for each in columns]
    theirs = [not row[name] for row in rows]
    assert 3 < sum(theirs) < len(rows) - 3  # it has something to decide on
    agreement = sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(rows)
    assert agreement >= 0.97


def test_the_language_filter_decides_as_datatroves(rows: list[dict[str, str]]) -> None:
    pytest.importorskip("fasttext_pybind")
    each = LanguageFilter(Language(keep=["en"]))
    ours = [each.judge(each.measure(Doc("", row["text"]))) is None for row in rows]
    agreement = sum(a == (not row["language"]) for a, row in zip(ours, rows, strict=True)) / len(rows)
    assert agreement >= 0.97


def test_c4s_line_rules_leave_the_text_that_datatroves_leave(rows: list[dict[str, str]]) -> None:
    (editor,) = build_editors(FilterSettings(line_rules=LineRules(presets=["c4"]), code_headers="none"))
    kept = [row for row in rows if not row["c4"]]
    assert len(kept) > 30
    for row in kept:
        left = apply_edits(row["text"], editor.edits(row["text"], {}))
        assert [line.strip() for line in left.split("\n") if line.strip()] == [
            line.strip() for line in row["c4_text"].split("\n") if line.strip()
        ]


def test_after_its_line_rules_the_page_rules_of_c4_say_the_same(
    rows: list[dict[str, str]], columns: list[dict[str, Any]]
) -> None:
    """The worker counts facts on the edited text, datatrove judges the unedited one."""
    (editor,) = build_editors(FilterSettings(line_rules=LineRules(presets=["c4"]), code_headers="none"))
    judge = RuleFilter(SETTINGS["c4"]).judge
    for row in rows:
        left = apply_edits(row["text"], editor.edits(row["text"], {}))
        values = measure(left, FactsSettings()).values
        verdict = judge({f"f_{name}": value for name, value in values.items()})
        assert (verdict is None) == (not row["c4"]), row["id"]
