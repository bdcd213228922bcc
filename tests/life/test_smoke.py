"""The whole road on the smoke recipe: every stage, its plan, its reuse, its report."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from arriero.artifacts import Artifact
from arriero.artifacts.lineage import lineage, raw_sources
from arriero.cost.ledger import Ledger
from arriero.recipe.runfolder import RunFolder

pytestmark = pytest.mark.slow
STAGES = ["corpus", "tokenizer", "tokens", "base", "sft", "dpo", "int8", "int4", "scores", "hf"]


def test_every_stage_is_there_whole(smoke_run: Path) -> None:
    for name in STAGES:
        artifact = Artifact.open(smoke_run / name, hashes=True)
        assert artifact.manifest.name == name
        assert artifact.manifest.files
        assert artifact.manifest.measured["estimate"]["seconds"]["basis"] == "measured"
    assert not list((smoke_run / "artifacts").glob(".*")), "nothing temporary is left"


def test_lineage_leads_back_to_the_raw_files_and_their_licences(smoke_run: Path, repository: Path) -> None:
    artifact = Artifact.open(smoke_run / "int8")
    assert {step.name for step in lineage(artifact)} >= {
        "int8",
        "dpo",
        "sft",
        "base",
        "tokens",
        "tokenizer",
        "corpus",
    }
    sources = {Path(source.path).name for source in raw_sources(artifact)}
    assert sources and all((repository / "recipes" / "data" / name).exists() for name in sources)
    names = {record.name for record in artifact.manifest.licenses}
    assert names >= {"CDLA-Sharing-1.0", "ODC-By-1.0", "Apache-2.0"} and "unknown" not in names


def test_second_run_reuses_every_stage_quickly(arriero, smoke_run: Path, repository: Path) -> None:
    began = time.monotonic()
    done = arriero("run", repository / "recipes" / "smoke.yaml", "--out", smoke_run)
    assert time.monotonic() - began < 30
    assert "reused: " + ", ".join(STAGES) in done.stdout
    assert "0 stages to run" in done.stdout


def test_plan_names_every_stage_with_figures_and_sources(arriero, repository: Path, tmp_path: Path) -> None:
    done = arriero("plan", repository / "recipes" / "smoke.yaml", "--out", tmp_path / "new", "--json")
    plan = json.loads(done.stdout)
    assert [stage["name"] for stage in plan["stages"]] == STAGES
    for stage in plan["stages"]:
        for quantity, figure in stage["estimate"].items():
            if quantity == "co2" and "both the power and the grid are assumed" in figure["source"]:
                continue  # this machine's counters and place are not known; nothing is made up
            assert figure["basis"] != "unknown", (
                f"{stage['name']}: {quantity} is unknown ({figure['source']})"
            )
            assert figure["low"] <= figure["value"] <= figure["high"]
    assert any("measured" in line for line in plan["rests_on"])


def test_predictions_stand_beside_measurements(smoke_run: Path) -> None:
    lines = [
        line
        for line in Ledger(RunFolder(smoke_run).ledger).read()
        if line["type"] == "stage" and "measured" in line
    ]
    assert [line["name"] for line in lines] == STAGES
    for line in lines:
        predicted, measured = (
            line["predicted"]["seconds"]["value"],
            line["measured"]["estimate"]["seconds"]["value"],
        )
        if measured > 5:
            assert predicted / 3 < measured < predicted * 3, (
                f"{line['name']}: planned {predicted:.1f} s, took {measured:.1f} s"
            )


def test_training_teaches(smoke_run: Path) -> None:
    scores = json.loads((smoke_run / "scores" / "scores.json").read_text())
    text = json.dumps(scores)
    assert "unigram" in text and "bits_per_byte" in text
    base = Artifact.open(smoke_run / "base").manifest
    heldout = [line["loss"] for line in base.facts["heldout"]]
    assert heldout[-1] < heldout[0] - 1.0
    metrics = (smoke_run / "base" / "logs" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in metrics if "lr" in json.loads(line)]
    assert steps == sorted(set(steps)) and steps[-1] == 120


def test_report_is_one_self_contained_page(smoke_run: Path) -> None:
    page = (smoke_run / "report.html").read_text()
    assert 'src="http' not in page and 'href="http://' not in page.replace("http://www.w3.org", "")
    for name in STAGES:
        assert name in page
    data = json.loads((smoke_run / "report.json").read_text())
    assert data["stages"]


def test_an_artifact_can_be_shown(arriero, smoke_run: Path) -> None:
    text = arriero("show", smoke_run / "dpo").stdout
    for word in ("Lineage", "Raw files", "Licences", "Spec", "sha256"):
        assert word in text
    assert json.loads(arriero("show", smoke_run / "dpo", "--json").stdout)["kind"] == "dpo"


def test_ask_answers_over_http(arriero, smoke_run: Path) -> None:
    done = arriero("ask", smoke_run / "int8", "Who are you?")
    assert "over HTTP" in done.stdout


def test_chat_answers_in_the_terminal(arriero, smoke_run: Path) -> None:
    done = arriero(
        "chat", smoke_run / "hf", "--prompt", "Who are you?", "--temperature", "0", "--max-tokens", "12"
    )
    assert done.stdout.strip()


def test_stage_commands_teach_and_run(arriero, smoke_run: Path, tmp_path: Path) -> None:
    help_text = arriero("pretrain", "--help").stdout
    assert "--learning-rate" in help_text and "--tokens DIR" in help_text and "[default:" in help_text
    out = tmp_path / "by-hand"
    first = arriero("quantize", "--model", smoke_run / "sft", "--scheme", "int8", "--out", out)
    assert "made" in first.stdout
    assert (
        "reused" in arriero("quantize", "--model", smoke_run / "sft", "--scheme", "int8", "--out", out).stdout
    )
    line = arriero("quantize", "--model", smoke_run / "sft", "--scheme", "int7", "--out", out, code=2).stderr
    assert "scheme" in line and len(line.strip().splitlines()) == 1
    line = arriero("quantize", "--model", smoke_run / "tokens", "--out", out, code=2).stderr
    assert "tokens, but model is wanted" in line


def test_help_of_every_command(arriero) -> None:
    text = arriero("--help").stdout
    for command in ("plan", "run", "report", "show", "calibrate", "chat", "serve", "pretrain", "quantize"):
        assert command in text
        assert arriero(command, "--help").stdout.startswith("Usage")
    assert "did you mean 'pretrain'" in arriero("pretran", code=2).stderr
