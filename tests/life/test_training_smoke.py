"""The training showcase's small twin: a mixture, a depth, an average of the weights, samples, and the page that shows it."""

from __future__ import annotations

import html
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from arriero.artifacts import Artifact

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def training(arriero, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of recipes/training-smoke.yaml."""
    out = tmp_path_factory.mktemp("training") / "run"
    arriero("run", repository / "recipes" / "training-smoke.yaml", "--out", out, "--tensorboard", out / "tb")
    return out


def lines(stage: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (stage / "logs" / "metrics.jsonl").read_text().splitlines()]


def test_the_mixture_teaches_and_each_source_is_scored(training: Path) -> None:
    facts = Artifact.open(training / "base", hashes=True).manifest.facts
    first, last = facts["heldout"][0], facts["heldout"][-1]
    assert last["loss"] < first["loss"] - 1.0
    assert set(last["sources"]) == {"stories", "web"}
    for name, source in last["sources"].items():
        assert source["bits_per_byte"] < first["sources"][name]["bits_per_byte"] - 0.5
    shares = Artifact.open(training / "mixture").manifest.facts["shares"]
    assert shares == pytest.approx({"stories": 2 / 3, "web": 1 / 3})


def test_batch_learning_rate_and_speed_take_their_course(training: Path) -> None:
    found = [line for line in lines(training / "base") if "lr" in line]
    rates = [line["lr"] for line in found]
    assert max(rates) == pytest.approx(3e-3) and rates[len(rates) // 2] == max(rates), "wsd holds the peak"
    assert rates[-1] == pytest.approx(3e-4, rel=0.2)
    tokens = [after["tokens_seen"] - before["tokens_seen"] for before, after in itertools.pairwise(found)]
    steps = [after["step"] - before["step"] for before, after in itertools.pairwise(found)]
    assert tokens[0] / steps[0] < tokens[len(tokens) // 2] / steps[len(steps) // 2] == 8 * 128
    assert all(line["tokens_per_s"] > 0 and line["mfu"] > 0 for line in found)
    assert all(line["weights_bytes"] + line["optimizer_bytes"] < line["memory_bytes"] for line in found)


def test_samples_and_tasks_are_told_by_step(training: Path) -> None:
    steps = {line["step"]: line["samples"] for line in lines(training / "base") if "samples" in line}
    assert len(steps) == 6 and all(found[0]["prompt"] == "Once upon a time" for found in steps.values())
    tasks = [
        line["task_preference_accuracy"]
        for line in lines(training / "sft")
        if "task_preference_accuracy" in line
    ]
    assert len(tasks) == 4 and all(0 <= value <= 1 for value in tasks)


def test_the_report_shows_it(training: Path) -> None:
    page = html.unescape((training / "report.html").read_text())
    facts = Artifact.open(training / "base").manifest.facts
    for words in ("held-out bits per byte of each source", "gradient norm", "tokens/s", "Samples of the run",
                  "pairs of a task put in order", "memory", facts["mfu"]["formula"]):  # fmt: skip
        assert words in page, words


def test_tensorboard_has_event_files(training: Path) -> None:
    assert [path for path in (training / "tb").rglob("*tfevents*") if path.stat().st_size]


def test_the_showcase_is_planned(arriero, repository: Path, tmp_path: Path) -> None:
    done = arriero("plan", repository / "recipes" / "training.yaml", "--out", tmp_path / "new", "--json")
    stages = {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}
    assert stages["base"]["estimate"]["seconds"]["value"] > 0
    assert any("depth 3" in note for note in stages["base"]["notes"])
