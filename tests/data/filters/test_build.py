from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from arriero.data.facts import FACTS, FactsSettings
from arriero.data.filters import (
    Doc,
    FilterSettings,
    build_editors,
    build_filters,
    judge_document,
    judge_table,
    measure_names,
    prepare_lists,
    train_classifier,
)
from arriero.data.filters.settings import LineRules
from arriero.data.records import apply_edits

TEXTS = [
    "The old town lies by the river. " * 30,
    "This is a short English text about the old town and the river that runs through it.",
    "buy darn cheap phones and have a look at the best of them " * 12,
    "Das alte Schloss steht auf dem Berg über der Stadt und ist sehr schön. " * 20,
]


@pytest.fixture
def everything(tmp_path: Path) -> FilterSettings:
    """Settings that switch every filter on, but the perplexity."""
    pytest.importorskip("fasttext_pybind")
    (tmp_path / "urls.txt").write_text("bad.example\n")
    (tmp_path / "ids.txt").write_text("id-1\n")
    (tmp_path / "words.txt").write_text("darn\n")
    good = [f"the river and the town number {i} of the old valley" for i in range(60)]
    bad = [f"buy {i} cheap phones and win" for i in range(60)]
    train_classifier(good, bad, tmp_path / "c.safetensors")
    return FilterSettings.model_validate(
        {
            "rules": {"presets": ["gopher", "refinedweb"]},
            "line_rules": {"presets": ["refinedweb"]},
            "language": {},
            "url_lists": [{"path": tmp_path / "urls.txt"}],
            "optout": {"ids": tmp_path / "ids.txt"},
            "word_lists": [{"path": tmp_path / "words.txt"}],
            "toxicity": {"words": tmp_path / "words.txt"},
            "code_headers": "none",
            "classifiers": [{"path": tmp_path / "c.safetensors"}],
        }
    )


def test_by_default_there_are_only_the_rules() -> None:
    settings = FilterSettings(code_headers="none")
    assert [each.stage for each in build_filters(settings)] == ["rules"]
    assert build_editors(settings) == []
    assert measure_names(settings) == []


def test_cheap_filters_come_first_and_say_what_they_add(everything: FilterSettings) -> None:
    filters = build_filters(everything)
    assert [each.stage for each in filters] == [
        "list", "optout", "language", "rules", "list", "classifier", "classifier",
    ]  # fmt: skip
    assert [each.needs for each in filters] == ["record", "record", *["text"] * 5]
    assert len(build_editors(everything)) == 1
    doc = Doc("x", TEXTS[0], columns={"lang": "en"})
    added = [name for each in filters for name in each.measure(doc)]
    assert added == ["lang", "lang_score", *measure_names(everything)]


def columns_of(number: int, filters: list[Any]) -> dict[str, Any]:
    from arriero.data.facts import measure

    facts = measure(TEXTS[number % 4], FactsSettings()).values
    columns: dict[str, Any] = {"id": f"id-{number}", "url": "http://bad.example/" if number == 6 else None}
    columns |= {f"f_{name}": value for name, value in facts.items()}
    for each in filters:
        columns |= each.measure(Doc(columns["id"], TEXTS[number % 4], columns=columns))
    return columns


def test_a_ledger_is_judged_as_its_documents_were(everything: FilterSettings) -> None:
    filters = build_filters(everything)
    rows = [columns_of(i, filters) for i in range(8)]
    types = {fact.name: fact.dtype for fact in FACTS}
    schema = pa.schema(
        [
            (name, pa.string() if name in ("id", "url", "lang") else
             pa.from_numpy_dtype(types[name[2:]]) if name.startswith("f_") else pa.float32())
            for name in rows[0]
        ]
    )  # fmt: skip
    found = judge_table(filters, pa.Table.from_pylist(rows, schema))
    expected = [judge_document(filters, row) for row in rows]
    stages = [filters[i].stage if i >= 0 else None for i in found.filter]
    reasons = [filters[i].reasons[j] if i >= 0 else None for i, j in zip(*found, strict=True)]
    assert stages == [pair[0] if pair else None for pair in expected]
    assert reasons == [pair[1].reason if pair else None for pair in expected]
    assert {"url.blocked", "optout.ids", "language.other", "gopher.min_words"} <= set(reasons)


def test_large_lists_are_hashed_once(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text("".join(f"site-number-{i:09d}.example\n" for i in range(40_000)))
    settings = FilterSettings.model_validate({"url_lists": [{"path": path, "name": "large"}]})
    ready = prepare_lists(settings, tmp_path / "state")
    assert ready.url_lists[0].path == tmp_path / "state" / "large.npy"
    assert np.load(ready.url_lists[0].path).size == 40_000
    for each in (settings, ready):
        verdict = build_filters(each)[0].judge({"url": "http://www.site-number-000000007.example/x"})
        assert verdict is not None
        assert verdict.reason == "url.large"
    assert prepare_lists(FilterSettings(), tmp_path) == FilterSettings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url_lists": [{"path": "a"}, {"path": "b"}]}, "two have the name 'blocked'"),
        ({"rules": {"max_words_cut": 0.1}}, "line_rules cut"),
        ({"language": {"min_score": 2}}, "min_score"),
        ({"toxicity": {}}, "needs a classifier"),
        ({"perplexity": {}}, "model"),
        ({"languages": {}}, "languages"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FilterSettings.model_validate(settings)


def test_every_setting_teaches() -> None:
    seen: list[type] = [FilterSettings, LineRules]
    for model in seen:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if hasattr(part, "model_fields") and part not in seen:
                    seen.append(part)
    assert len(seen) >= 8


def test_a_worker_starts_without_heavy_packages() -> None:
    code = (
        "import sys, arriero.data.filters as f; f.build_filters(f.FilterSettings());"
        "print([m for m in ('torch', 'pyarrow', 'tokenizers', 'transformers', 'kenlm') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


ODD = [
    "",
    "\x00",
    "\ud800",
    "\n" * 50_000,
    "a" * 300_000,
    "{" * 3000,
    "1.1," * 20_000,
    "\u202e" * 500,
    "[1]" * 9000,
]


@pytest.mark.parametrize("text", ODD)
def test_no_text_breaks_a_filter_or_an_editor(everything: FilterSettings, text: str) -> None:
    settings = everything.model_copy(
        update={"line_rules": LineRules(presets=["c4", "refinedweb"], boilerplate=True)}
    )
    for editor in build_editors(settings):
        edits = editor.edits(text, {})
        assert len(apply_edits(text, edits)) <= len(text)
    for each in build_filters(settings):
        for value in each.measure(Doc("x", text, columns={"lang": "en"})).values():
            assert isinstance(value, str) or 0 <= value <= 1e6
