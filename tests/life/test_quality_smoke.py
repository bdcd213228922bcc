"""The recipe whose pages are taken as often as a quality classifier says: planned, run and traced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arriero.artifacts import Artifact
from arriero.data.quality.account import QualityAccount

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quality(arriero, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of recipes/quality-smoke.yaml."""
    out = tmp_path_factory.mktemp("quality") / "run"
    arriero("run", repository / "recipes" / "quality-smoke.yaml", "--out", out)
    return out


def test_pages_are_taken_as_often_as_their_bucket_says(quality: Path) -> None:
    account = QualityAccount.model_validate_json((quality / "tokens" / "quality.json").read_bytes())
    best, middle, rest, unmeasured = account.buckets
    assert best.documents > 40 and middle.documents > 40 and rest.documents > 20
    assert best.written == 2 * best.documents and best.repeated_tokens == best.unique_tokens
    assert middle.written == middle.documents and not middle.repeated_tokens
    assert 0.2 * rest.documents < rest.written < 0.8 * rest.documents
    assert rest.left_out == rest.documents - rest.written and not unmeasured.documents
    train = Artifact.open(quality / "tokens").manifest.spec["splits"]["train"]
    assert train["repeated"] == account.repeated_tokens == best.repeated_tokens
    assert train["tokens"] == sum(b.unique_tokens + b.repeated_tokens for b in account.buckets)


def test_the_last_token_is_a_second_copy(arriero, quality: Path) -> None:
    tokens = Artifact.open(quality / "tokens").manifest.spec["splits"]["train"]["tokens"]
    found = json.loads(arriero("data", "trace", quality / "tokens", str(tokens - 1), "--json").stdout)[0]
    assert (found["token"]["copy"], found["token"]["copies"], found["notes"]) == (1, 2, [])
    assert found["ledger"]["m_quality_wiki"] >= 0.45
    text = arriero("data", "trace", quality / "tokens", str(tokens - 1)).stdout
    assert "2 of 2, by the document's quality" in text


def test_the_plan_knows_before(arriero, repository: Path, quality: Path, tmp_path: Path) -> None:
    recipe = repository / "recipes" / "quality-smoke.yaml"
    said = arriero("plan", recipe, "--out", tmp_path / "new").stdout
    assert "documents are taken" in said and "by quality_wiki of the corpus's text" in said
