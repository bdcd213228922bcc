from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.data.facts import FACTS
from arriero.data.filters.base import Doc
from arriero.data.filters.language import from_fineweb2, read_languages
from arriero.data.filters.presets import COMPARED, PRESETS, WORDS_CUT, rules_of
from arriero.data.filters.rule_filter import RuleFilter
from arriero.data.filters.rules import Rules
from arriero.data.filters.settings import Language
from arriero.data.records import Edit
from arriero.errors import ArrieroError

FACT_COLUMNS = {f"f_{fact.name}" for fact in FACTS}
ALL = ["c4", "fineweb-c4", "gopher", "fineweb", "ccnet", "refinedweb", "redpajama-code"]
THRESHOLDS = sorted({rule.threshold for rules in PRESETS.values() for rule in rules})
USED = sorted({name for rules in PRESETS.values() for rule in rules for name in rule.columns})
FIGURE = st.sampled_from(THRESHOLDS).flatmap(
    lambda t: st.sampled_from([t, t * 0.97, t * 1.03, 0.0, t * 2, t + 1])
)


def good() -> dict[str, float]:
    """Columns that keep every rule of every preset."""
    columns = dict.fromkeys(FACT_COLUMNS, 0.0) | {WORDS_CUT: 0.0}
    for preset in ALL:
        for rule in PRESETS[preset]:
            for name in rule.columns:
                columns[name] = max(columns[name], rule.threshold) if rule.side == "min" else columns[name]
    return columns


def test_every_setting_is_compared_with_a_fact_that_is_counted() -> None:
    named = {name for name in Rules.model_fields if name not in ("presets", "words", "stop_words")}
    assert named == set(COMPARED)
    for rules in PRESETS.values():
        for rule in rules:
            assert set(rule.columns) <= FACT_COLUMNS | {WORDS_CUT}
    for columns in COMPARED.values():
        assert set(columns) <= FACT_COLUMNS | {WORDS_CUT}


@pytest.mark.parametrize("preset", ALL)
def test_each_rule_of_a_preset_alone_drops(preset: str) -> None:
    judge = RuleFilter(Rules(presets=[preset])).judge
    assert judge(good()) is None
    for rule in PRESETS[preset]:
        step = 0.01 if rule.side == "max" else -0.01
        verdict = judge({**good(), rule.columns[-1]: rule.threshold + step})
        # the duplicates of a fact (min and max words) may name another rule of the same column
        assert verdict is not None
        assert verdict.reason == f"{preset}.{rule.name}"
        assert verdict.threshold == rule.threshold
        assert verdict.near_miss == (abs(step) <= 0.1 * rule.threshold)


def test_published_thresholds() -> None:
    of = {preset: {rule.name: rule.threshold for rule in PRESETS[preset]} for preset in ALL}
    assert of["gopher"]["min_words"] == 50
    assert [of["gopher"][f"max_duplicate_{n}grams"] for n in range(5, 11)] == [
        0.15, 0.14, 0.13, 0.12, 0.11, 0.10
    ]  # fmt: skip
    assert of["fineweb"] == {
        "min_terminal_punctuation_lines": 0.12, "max_short_lines": 0.67, "max_repeated_line_characters": 0.01,
        "max_newlines_per_word": 0.3,
    }  # fmt: skip
    assert of["c4"] == {"min_sentences": 5, "max_curly_brackets": 0, "max_lorem_ipsum": 0}
    assert of["ccnet"] == {"min_characters": 300}
    assert of["redpajama-code"] == {
        "max_line_length": 1000, "max_mean_line_length": 100, "min_alphanumeric_share": 0.25,
        "min_letters_per_token": 1.5,
    }  # fmt: skip
    assert "min_stop_words" in of["gopher"]
    assert "min_stop_word_count" in of["refinedweb"]


def test_a_given_threshold_replaces_it_in_all_presets_null_is_off_and_a_new_one_is_added() -> None:
    rules = rules_of(
        Rules(presets=["gopher", "refinedweb"], min_words=20, max_top_2gram=None, max_upper_share=0.5)
    )
    found = {rule.reason: rule.threshold for rule in rules}
    assert found["gopher.min_words"] == found["refinedweb.min_words"] == 20
    assert not any("top_2gram" in reason for reason in found)
    assert found["rules.max_upper_share"] == 0.5
    assert found["gopher.max_top_3gram"] == 0.18
    assert found["rules.min_characters"] == 1


def test_rules_of_recipes_stay_valid_and_say_what_is_wrong_with_others() -> None:
    assert Rules(**yaml.safe_load("{min_words: 20, max_top_2gram: null}")).max_top_2gram is None
    assert Rules.model_validate_json(json.dumps(Rules(min_words=3).model_dump())) == Rules(min_words=3)
    for bad in (
        {"min_words": True}, {"max_top_2gram": 1.5}, {"min_words": -1}, {"min_word": 1}, {"presets": ["c5"]},
        {"presets": ["none", "c4"]}, {"presets": ["c4", "c4"]}, {"min_words": float("nan")},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Rules(**bad)


def test_without_presets_only_an_empty_text_is_dropped() -> None:
    judge = RuleFilter(Rules(presets=["none"])).judge
    nothing = dict.fromkeys(FACT_COLUMNS, 0)
    verdict = judge(nothing)
    assert verdict is not None
    assert verdict.reason == "rules.min_characters"
    assert judge({**nothing, "f_characters": 1}) is None


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(USED), FIGURE, max_size=4), min_size=1, max_size=5),
    st.lists(st.sampled_from(["en", "de", None]), min_size=5, max_size=5),
    st.lists(st.sampled_from(ALL), unique=True),
)
def test_a_table_is_judged_as_its_rows_are(
    rows: list[dict[str, float]], langs: list[str | None], presets: list[str]
) -> None:
    each = RuleFilter(Rules(presets=presets), {"de": Rules(presets=["ccnet"], min_words=7)})
    columns = [{**good(), **row, "lang": lang} for row, lang in zip(rows, langs, strict=False)]
    verdicts = [each.judge(row) for row in columns]
    names = [each.reasons[i] if i >= 0 else None for i in each.judge_table(pa.Table.from_pylist(columns))]
    assert names == [verdict.reason if verdict else None for verdict in verdicts]


def test_a_fact_that_was_not_measured_is_named() -> None:
    each = RuleFilter(Rules())
    with pytest.raises(ArrieroError, match=r"gopher\.min_words needs the column f_plain_words"):
        each.judge({"f_characters": 9})
    with pytest.raises(ArrieroError, match="f_characters"):
        each.judge_table(pa.table({"id": ["a"]}))


def test_the_words_that_were_cut_are_counted() -> None:
    each = RuleFilter(Rules(presets=["refinedweb"]))
    edits = [Edit(0, 10, "", "line.counters"), Edit(12, 16, "<mail>", "pii.email")]
    doc = Doc("1", "x", before="30 likes\n\nI like this very much", edits=edits)
    assert each.measure(doc) == {WORDS_CUT: pytest.approx(2 / 7)}
    assert each.measure(Doc("2", "whole")) == {WORDS_CUT: 0.0}
    verdict = each.judge({**good(), WORDS_CUT: 2 / 7})
    assert verdict is not None
    assert verdict.reason == "refinedweb.max_words_cut"
    assert RuleFilter(Rules()).measure(doc) == {}


def test_the_nearest_rule_of_a_kept_document() -> None:
    each = RuleFilter(Rules(presets=["fineweb"]))
    assert each.nearest({**good(), "f_terminal_punctuation_lines": 1.0}) is None
    near = each.nearest({**good(), "f_terminal_punctuation_lines": 1.0, "f_short_lines": 0.65})
    assert near is not None
    assert (near.reason, near.value) == ("fineweb.max_short_lines", 0.65)


def test_rules_by_language_and_fineweb2s_files(tmp_path: Path) -> None:
    german = {
        "dup_line_frac": 0.263, "dup_n_grams": [[5, 0.141], [10, 0.098]], "language_score": 0.821,
        "line_punct_thr": 0.0, "max_avg_word_length": 15, "max_non_alpha_words_ratio": 0.774,
        "min_avg_word_length": 0, "new_line_ratio": 0.152, "stopwords": ["der"], "top_n_grams": [[2, 0.169]],
    }  # fmt: skip
    path = tmp_path / "languages.yaml"
    path.write_text(yaml.safe_dump({"de": from_fineweb2(german), "fr": {"min_score": 0.9}}))
    base = Rules(presets=["gopher", "fineweb"], min_words=20)
    found = read_languages(Language(per_language=path), base)
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({"de": german}))
    assert read_languages(Language(per_language=tmp_path / "theirs.yaml"), base) == {"de": found["de"]}
    least, rules = found["de"]
    assert least == 0.821
    assert rules is not None
    thresholds = {rule.name: rule.threshold for rule in rules_of(rules)}
    assert thresholds["max_duplicate_lines"] == 0.263
    assert thresholds["max_top_2gram"] == 0.169
    assert thresholds["max_duplicate_5grams"] == 0.141
    assert thresholds["max_duplicate_6grams"] == 0.14
    assert thresholds["max_repeated_line_characters"] == 0.1
    assert thresholds["min_words"] == 20
    assert "max_short_lines" not in thresholds
    assert "min_stop_words" not in thresholds
    assert found["fr"] == (0.9, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[de]", "should map languages"),
        ("{de: {score: 1}}", "de: an entry has min_score, rules"),
        ("{de: {min_score: 2}}", "from 0 to 1"),
        ("{de: {rules: {min_word: 2}}}", "rules.min_word"),
        ("{de: {rules: 7}}", "de: "),
        ("{de: {rules: {words: space}}}", "words is one for all"),
        ("{de: ", "cannot be read"),
    ],
)
def test_a_wrong_file_of_languages_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "languages.yaml"
    path.write_text(text)
    with pytest.raises(ArrieroError, match=message):
        read_languages(Language(per_language=path))
