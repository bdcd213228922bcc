"""The encoders' small twin: every family planned, trained and scored, and its text made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from arriero.artifacts import Artifact

pytestmark = pytest.mark.slow
OBJECTIVES = {
    "bert": "next_sentence",
    "bert_order": "sentence_order",
    "roberta": "masked",
    "albert": "sentence_order",
}


@pytest.fixture(scope="module")
def run(arriero, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of recipes/encoders-smoke.yaml."""
    out = tmp_path_factory.mktemp("encoders") / "run"
    arriero("run", repository / "recipes" / "encoders-smoke.yaml", "--out", out)
    return out


def test_every_family_learns_its_own_objective(run: Path) -> None:
    for name, objective in OBJECTIVES.items():
        facts = Artifact.open(run / name, hashes=True).manifest.facts
        assert facts["objective"] == objective
        assert facts["heldout"][-1]["loss"] < facts["heldout"][0]["loss"] - 0.3
        found = facts["masked"]
        assert 0.02 < found["unigram"]["accuracy"] < found["trigram"]["accuracy"] < 0.7
        assert ("pairs" in facts) == (name != "roberta")


def test_the_two_recipes_have_the_same_stages(
    arriero, repository: Path, tmp_path: Path, run: Path, first_plan
) -> None:
    names = []
    done = arriero("plan", repository / "recipes" / "encoders.yaml", "--out", tmp_path / "new", "--json")
    for plan in (json.loads(done.stdout), first_plan(run)):
        names.append([stage["name"] for stage in plan["stages"]])
        assert all(
            figure["basis"] != "unknown"
            for stage in plan["stages"]
            for quantity, figure in stage["estimate"].items()
            if quantity != "co2"  # which is not said where power and grid are both assumed
        )
    assert names[0] == names[1]


def test_the_text_is_what_its_script_writes(repository: Path, tmp_path: Path) -> None:
    data = repository / "recipes" / "data"
    subprocess.run([sys.executable, data / "make_town.py", tmp_path / "town.txt.gz"], check=True)
    assert (tmp_path / "town.txt.gz").read_bytes() == (data / "town.txt.gz").read_bytes()
