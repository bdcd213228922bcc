"""The scaling ladder's small twin: a law from its rungs, a prediction made before the next rung is trained, and its check."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from arriero.artifacts import Artifact

pytestmark = pytest.mark.slow
RECIPES = ("scaling-ladder.yaml", "scaling-ladder-smoke.yaml")


@pytest.fixture(scope="module")
def ladder(arriero, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of recipes/scaling-ladder-smoke.yaml."""
    out = tmp_path_factory.mktemp("ladder") / "run"
    done = arriero("run", repository / "recipes" / "scaling-ladder-smoke.yaml", "--out", out)
    (out / "stdout.txt").write_text(done.stdout + done.stderr)
    return out


def test_the_prediction_is_an_artifact_from_before_the_run(ladder: Path) -> None:
    law, rung, check = (Artifact.open(ladder / name, hashes=True) for name in ("law", "next", "check"))
    assert datetime.fromisoformat(law.manifest.ended) <= datetime.fromisoformat(rung.manifest.started)
    assert "next" not in {record.name for record in law.manifest.inputs}
    line = json.loads(check.file("reconciliation.json").read_text())["lines"][0]
    predicted = json.loads(law.file("law.json").read_text())["predictions"][0]
    assert line["prediction"] == predicted and line["made_before"] is True
    assert line["measured"] == rung.manifest.facts["heldout_nats_per_token"]
    assert predicted["low"] < predicted["loss"] < predicted["high"]
    assert abs(line["error"]) < 0.35, (
        "models this small follow no law well, but the prediction is no nonsense"
    )


def test_the_law_was_fitted_to_the_rungs_that_were_trained(ladder: Path) -> None:
    found = json.loads((ladder / "law" / "law.json").read_text())
    assert len(found["runs"]) == 9 and found["alpha"] > 0 and found["beta"] > 0
    for run in found["runs"]:
        manifest = Artifact.open(ladder / run["name"]).manifest
        assert run["loss"] == manifest.facts["heldout_nats_per_token"]
        assert (
            run["parameters"] == manifest.spec["n_parameters"] and run["tokens"] == manifest.facts["tokens"]
        )


def test_both_sides_are_shown(arriero, ladder: Path) -> None:
    said = (ladder / "stdout.txt").read_text()
    assert "should come to" in said and "next: predicted" in said
    assert "predicted" in arriero("show", ladder / "check").stdout
    fitted = json.loads(
        arriero("scaling", "fit", ladder / "law" / "runs.csv", "--delta", "0.01", "--json").stdout
    )
    assert fitted["law"]["alpha"] == pytest.approx(
        json.loads((ladder / "law" / "law.json").read_text())["alpha"], rel=1e-3
    )


def test_a_second_run_takes_everything_again(arriero, repository: Path, ladder: Path) -> None:
    done = arriero("run", repository / "recipes" / "scaling-ladder-smoke.yaml", "--out", ladder)
    assert "15 reused" in done.stdout


def test_the_plan_prices_every_stage(
    arriero, repository: Path, tmp_path: Path, ladder: Path, first_plan
) -> None:
    planned = arriero("plan", repository / "recipes" / RECIPES[0], "--out", tmp_path / "new", "--json")
    for plan, limit in ((json.loads(planned.stdout), 1.2e14), (first_plan(ladder), 1e12)):
        kinds = [stage["kind"] for stage in plan["stages"]]
        assert kinds[-3:] == ["ladder", "pretrain", "reconcile"] and kinds.count("pretrain") >= 6
        for stage in plan["stages"]:
            assert stage["estimate"]["seconds"]["basis"] != "unknown", stage["name"]
        # seconds go with whatever else the machine does while it is calibrated; arithmetic does not
        assert 0 < plan["total"]["flops"]["value"] < limit


def test_the_real_recipe_has_several_sizes_and_token_counts(repository: Path) -> None:
    stages = yaml.safe_load((repository / "recipes" / RECIPES[0]).read_text())["stages"]
    rungs = [stages[name] for name in stages["law"]["inputs"]["models"]]
    assert len(rungs) >= 5 and "next" not in stages["law"]["inputs"]["models"]
    assert len({rung["d_model"] for rung in rungs}) >= 3 and len({rung["duration"] for rung in rungs}) >= 3
    assert stages["next"]["d_model"] > max(rung["d_model"] for rung in rungs)
    assert list(stages).index("law") < list(stages).index("next") < list(stages).index("check")
