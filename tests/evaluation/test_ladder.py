"""The stages `ladder` and `reconcile`: a law from models' manifests, its predictions, and what became of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from arriero.artifacts import Artifact, Manifest
from arriero.artifacts.artifact import list_files
from arriero.artifacts.manifest import InputRecord
from arriero.cost.device import DeviceProfile
from arriero.cost.scaling.law import ParametricLaw
from arriero.cost.scaling.runs import read_runs
from arriero.errors import ArrieroError
from arriero.evaluation.ladder import Ladder
from arriero.evaluation.ladder_result import LawResult, Reconciliation
from arriero.evaluation.reconcile import Reconcile
from arriero.stage import LawSpec, ModelSpec, get_stage

LAW = ParametricLaw(1.5, 60, 300, 0.35, 0.4)
SIZES, TOKENS = (60_000, 160_000, 430_000), (1e6, 2e6, 4e6)
NEXT = {"next": {"parameters": 1.1e6, "tokens": 4e6}}


def model(folder: Path, name: str, n: int, tokens: float, loss: float, content: str, **more: Any) -> Artifact:
    """What a pretrain stage would have left, without the weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"name": name}))
    record = InputRecord(role="tokens", name="tokens", kind="tokenize", key="k", content=content, path=".")
    spec = ModelSpec(config={"family": "llama"}, n_parameters=n, weight_bytes=4 * n)
    facts = {"tokens": tokens, "heldout_nats_per_token": loss, "parameters": {"embedding": n // 2}}
    fields = {
        "settings": {}, "seed": 1, "started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:05:00+00:00",
        "facts": facts, **more,
    }  # fmt: skip
    manifest = Manifest(
        name=name, kind="pretrain", makes="model", key=name, stage_version=1, inputs=[record], files=list_files(folder),
        spec=spec.model_dump(mode="json"), **fields,
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return Artifact.open(folder)


@pytest.fixture
def rungs(tokens: Artifact, tmp_path: Path) -> list[Artifact]:
    """Nine runs of a known law, with a noise of 0.2 %."""
    random, found = np.random.default_rng(0), []
    for n in SIZES:
        for d in TOKENS:
            loss = float(LAW.loss(n, d)) * float(np.exp(0.002 * random.standard_normal()))
            name = f"m{len(found)}"
            found.append(model(tmp_path / name, name, n, d, loss, tokens.manifest.content))
    return found


def fitted(rungs: list[Artifact], context: Any, tokens: Artifact | None = None, **more: Any) -> LawResult:
    stage = Ladder()
    inputs = {"models": rungs} | ({"tokens": tokens} if tokens else {})
    outcome = stage.run(stage.Settings(bootstrap_samples=100, **more), inputs, context)
    found = LawResult.model_validate_json((context.folder / "law.json").read_bytes())
    assert isinstance(outcome.spec, LawSpec) and outcome.spec.runs == len(found.runs)
    assert (
        set(outcome.spec.predictions)
        == set(outcome.facts["predictions"])
        == {p.name for p in found.predictions}
    )
    return found


def committed(
    context: Any, predictions: dict[str, Any], ended: str = "2026-01-01T11:00:00+00:00"
) -> Artifact:
    """The folder of a finished ladder, as an artifact."""
    spec = LawSpec.model_validate({"runs": 9, "predictions": predictions})
    manifest = Manifest(
        name="law", kind="ladder", makes="law", key="law", stage_version=1, settings={}, seed=1,
        files=list_files(context.folder), spec=spec.model_dump(mode="json"), started=ended, ended=ended,
    )  # fmt: skip
    (context.folder / "manifest.json").write_text(manifest.model_dump_json())
    return Artifact.open(context.folder)


def test_a_law_and_its_prediction(rungs: list[Artifact], tokens: Artifact, context: Any) -> None:
    found = fitted(rungs, context, predict=NEXT)
    line = found.predictions[0]
    assert line.loss == pytest.approx(float(LAW.loss(1.1e6, 4e6)), rel=0.03)
    assert line.low < line.law_low <= line.loss <= line.law_high < line.high and 0 < line.decades < 1
    assert found.scatter < 0.01 and found.method == "losses" and found.embeddings
    assert [run.name for run in found.runs] == [rung.name for rung in rungs]
    assert any("is what 1.10 M parameters on 4.00 M tokens should come to" in said for said in context.lines)
    rows = list(csv.DictReader((context.folder / "runs.csv").open()))
    assert float(rows[4]["fitted"]) == pytest.approx(found.runs[4].fitted)
    again = read_runs(context.folder / "runs.csv")
    assert again.parameters.tolist() == [run.parameters for run in found.runs]
    picture = ElementTree.parse(context.folder / "law.svg").getroot()
    words = {element.text for element in picture.iter() if element.tag.endswith("text")}
    assert {"next predicted", "best split", "m8"} <= words


def test_repeats_are_told_of_where_the_tokens_are_known(
    rungs: list[Artifact], tokens: Artifact, context: Any
) -> None:
    there = tokens.manifest.spec["splits"]["train"]["tokens"]
    found = fitted(rungs, context, tokens, predict=NEXT)
    assert f"m0 goes over its text {1e6 / there:.1f} times" in found.notes[0] and found.notes[-1].startswith(
        "next"
    )
    assert not fitted(rungs, context, predict=NEXT).notes


def test_embeddings_may_be_left_out(rungs: list[Artifact], context: Any) -> None:
    found = fitted(rungs, context, embeddings=False)
    assert [run.parameters for run in found.runs][::3] == [
        n - n // 2 for n in SIZES
    ] and not found.predictions


def test_models_that_make_no_ladder_are_refused(
    rungs: list[Artifact], tokens: Artifact, context: Any, tmp_path: Path
) -> None:
    other = model(tmp_path / "other", "other", 10**6, 1e6, 3.0, "another text")
    with pytest.raises(ArrieroError, match="'other' was not trained on the tokens of 'm0'"):
        fitted([*rungs, other], context)
    with pytest.raises(ArrieroError, match="'other' was not trained on the tokens 'tokens'"):
        fitted([other, *rungs], context, tokens)
    blind = model(tmp_path / "blind", "blind", 10**6, 1e6, 3.0, tokens.manifest.content, facts={"tokens": 5})
    with pytest.raises(ArrieroError, match="'blind' does not say a held-out loss"):
        fitted([*rungs, blind], context)
    with pytest.raises(ArrieroError, match="at least 6"):
        fitted(rungs[:4], context)
    with pytest.raises(ArrieroError, match="decades of FLOP beyond"):
        fitted(rungs, context, predict={"far": {"parameters": 1e9, "tokens": 1e9}})
    far = fitted(rungs, context, predict={"far": {"parameters": 1e9, "tokens": 1e9}}, far=True)
    assert "whether the law still holds" in far.predictions[0].notes[0]


def test_plans_check_what_they_can(rungs: list[Artifact], profile: DeviceProfile) -> None:
    stage = get_stage("ladder")
    specs = [ModelSpec.model_validate(rung.manifest.spec) for rung in rungs]
    plan = stage.plan(stage.Settings(predict=NEXT), {"models": specs}, profile)
    assert plan.spec.predictions["next"].parameters == 1.1e6 and plan.estimate.seconds.known
    assert "predicts next: 1.10 M parameters on 4.00 M tokens" in plan.notes
    longer = stage.plan(stage.Settings(bootstrap_samples=50_000), {"models": specs}, profile)
    assert longer.estimate.seconds.value > 5 * plan.estimate.seconds.value
    with pytest.raises(ArrieroError, match="of 2 sizes cannot tell a scaling law"):
        stage.plan(stage.Settings(), {"models": specs[:6]}, profile)
    with pytest.raises(ValidationError):
        stage.Settings(predict={"next": {"parameters": -1, "tokens": 1}})
    check = get_stage("reconcile")
    good = {"law": plan.spec, "models": {"next": specs[0].model_copy(update={"n_parameters": 1_105_000})}}
    assert check.plan(check.Settings(), good, profile).spec.predictions == 1
    with pytest.raises(
        ArrieroError, match="'next' has 60,000 parameters, but the prediction was made for 1,100,000"
    ):
        check.plan(check.Settings(), {**good, "models": {"next": specs[0]}}, profile)
    with pytest.raises(ArrieroError, match="nothing was predicted of model 'nxt'; did you mean 'next'"):
        check.plan(check.Settings(), {**good, "models": {"nxt": specs[0]}}, profile)


@pytest.mark.parametrize(("off", "within"), [(0.001, True), (0.2, False)])
def test_reconciled_with_a_run_that_came_after(
    off: float, within: bool, rungs: list[Artifact], tokens: Artifact, context: Any, tmp_path: Path
) -> None:
    made = fitted(rungs, context, predict=NEXT)
    law = committed(context, NEXT)
    measured = made.predictions[0].loss * (1 + off)
    run = model(
        tmp_path / "next",
        "next",
        1_100_000,
        4.0005e6,
        measured,
        tokens.manifest.content,
        started="2026-01-01T11:00:00+00:00",
    )
    after = type(context)(tmp_path / "check", tmp_path / "state2")
    after.folder.mkdir()
    outcome = Reconcile().run(Reconcile.Settings(), {"law": law, "models": {"next": run}}, after)
    line = Reconciliation.model_validate_json((after.folder / "reconciliation.json").read_bytes()).lines[0]
    assert line.within is within and line.made_before and line.error == pytest.approx(off)
    assert outcome.facts["reconciled"][0]["measured"] == pytest.approx(measured)
    assert after.lines == [line.sentence] and ("inside" in line.sentence) is within
    assert "next measured" in (after.folder / "reconciliation.svg").read_text()


def test_hindsight_is_called_by_its_name(
    rungs: list[Artifact], tokens: Artifact, context: Any, tmp_path: Path
) -> None:
    fitted(rungs, context, predict=NEXT)
    law = committed(context, NEXT, ended="2026-01-01T10:00:01+00:00")
    run = model(tmp_path / "next", "next", 1_100_000, 4e6, 2.6, tokens.manifest.content)
    after = type(context)(tmp_path / "check", tmp_path / "state2")
    after.folder.mkdir()
    outcome = Reconcile().run(Reconcile.Settings(), {"law": law, "models": {"next": run}}, after)
    assert outcome.facts["reconciled"][0]["made_before"] is False and "hindsight" in after.lines[0]
    longer = model(tmp_path / "longer", "next", 1_100_000, 8e6, 2.6, tokens.manifest.content)
    with pytest.raises(
        ArrieroError, match="8,000,000 training tokens, but the prediction was made for 4,000,000"
    ):
        Reconcile().run(Reconcile.Settings(), {"law": law, "models": {"next": longer}}, after)


def test_a_damaged_law_is_refused(
    rungs: list[Artifact], tokens: Artifact, context: Any, tmp_path: Path
) -> None:
    (context.folder / "law.json").write_text("{}")
    law = committed(context, NEXT)
    run = model(tmp_path / "next", "next", 1_100_000, 4e6, 2.6, tokens.manifest.content)
    with pytest.raises(ArrieroError, match=r"law\.json cannot be read"):
        Reconcile().run(Reconcile.Settings(), {"law": law, "models": {"next": run}}, context)
