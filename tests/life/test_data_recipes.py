"""The recipes that end in tokens, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SOURCES = ("commoncrawl", "c4", "github", "wikipedia", "books", "arxiv", "stackexchange")


def report_of(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / stage / "report.json").read_bytes())
    return found


@pytest.mark.slow
def test_the_seven_sources_of_llama_1_become_one_mixture(arriero, repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arriero("run", repository / "recipes" / "llama1-data.yaml", "--out", out)
    for source in SOURCES:
        total = report_of(out, f"{source}-text")["total"]
        assert total["kept"]["documents"] >= 3, source
        assert total["in"]["documents"] == total["kept"]["documents"] + sum(
            row["documents"] for row in total["dropped"].values()
        )
    account = json.loads((out / "mixture" / "account.json").read_bytes())
    assert {"commoncrawl", "arxiv"} <= set(json.dumps(account).replace('"', " ").split())
    licences = {row["license"] for row in report_of(out, "github-text")["licenses"]}
    assert licences == {"Apache-2.0"}
    answers = next((out / "stackexchange-text").glob("train-*.jsonl.zst"))
    assert answers.stat().st_size > 10_000
    traced = arriero("data", "trace", out / "wikipedia", 500, "--json").stdout
    assert "wikipedia" in json.dumps(json.loads(traced)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "language"), [("fineweb-like", "en"), ("zh-data", "zh")])
def test_a_recipe_ends_in_tokens_of_its_language(
    arriero, repository: Path, tmp_path: Path, recipe: str, language: str
) -> None:
    out = tmp_path / "run"
    arriero("run", repository / "recipes" / f"{recipe}.yaml", "--out", out)
    report = report_of(out, "corpus")
    kept = {name for name, account in report["languages"].items() if account["kept"]["documents"]}
    assert kept == {language}
    assert report["total"]["kept"]["documents"] > 150
    assert any((out / "tokens").glob("*.bin"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["curation-helps", "mixture-search"])
def test_the_long_recipes_can_be_planned(arriero, repository: Path, tmp_path: Path, recipe: str) -> None:
    planned = arriero(
        "plan", repository / "recipes" / f"{recipe}.yaml", "--out", tmp_path / "run", "--json"
    ).stdout
    assert json.loads(planned)
