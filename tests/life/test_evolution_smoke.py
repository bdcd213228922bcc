"""The evolution's small twin: every family trained, compared and shown, and planned before."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from arriero.artifacts import Artifact

pytestmark = pytest.mark.slow
NETS = {"feedforward": "feedforward", "rnn": "rnn", "lstm": "lstm", "gpt": "gpt2", "llama": "llama"}


@pytest.fixture(scope="module")
def evolution(arriero, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder of recipes/evolution-smoke.yaml."""
    out = tmp_path_factory.mktemp("evolution") / "run"
    arriero("run", repository / "recipes" / "evolution-smoke.yaml", "--out", out)
    return out


@pytest.fixture(scope="module")
def comparison(evolution: Path) -> dict:
    return json.loads((evolution / "comparison" / "comparison.json").read_text())


def test_every_family_is_compared_with_its_seeds(evolution: Path, comparison: dict) -> None:
    families = {family["name"]: family for family in comparison["families"]}
    assert set(families) == {"ngram-3", "ngram-5", *NETS}
    for name, family in NETS.items():
        found = families[name]
        assert found["family"] == family and [run["seed"] for run in found["runs"]] == [1, 2]
        low, high = found["equal_time"]["seeds"]
        assert low < found["equal_time"]["value"] < high
        assert found["year"] > families["ngram-5"]["year"] == 1998
        for run in found["runs"]:
            assert run["cpu_seconds"] == pytest.approx(2.0, abs=1.0), "each net has the same budget"
            assert len(run["curve"]) >= 3 and run["curve"][-1]["tokens"] == run["tokens"]
            assert run["curve"][-1]["bits_per_byte"] < run["curve"][0]["bits_per_byte"]
            assert Artifact.open(evolution / run["name"]).manifest.seed == run["seed"]
    assert comparison["ngram"] in ("ngram-3", "ngram-5")


def test_equal_tokens_and_mixtures_are_there(comparison: dict) -> None:
    slowest = min(run["tokens"] for f in comparison["families"] if f["name"] in NETS for run in f["runs"])
    assert comparison["tokens_compared"] == slowest
    ngram = next(f for f in comparison["families"] if f["name"] == comparison["ngram"])
    for family in comparison["families"]:
        assert family["equal_tokens"] is not None
        if family["name"] in NETS:
            worst = max(ngram["equal_time"]["value"], 0) + 0.05
            assert family["mixture"]["value"] < min(worst, family["equal_time"]["value"])


def test_verdicts_never_call_noise_better(comparison: dict) -> None:
    assert {verdict["view"] for verdict in comparison["verdicts"]} == {
        "equal_time",
        "equal_tokens",
        "mixture",
    }
    for verdict in comparison["verdicts"]:
        if verdict["better"] is not None:
            for ends in (verdict["difference"]["seeds"], verdict["difference"]["documents"]):
                assert ends is None or ends[0] > 0 or ends[1] < 0


def test_files_report_and_show_say_it(arriero, evolution: Path, comparison: dict) -> None:
    folder = evolution / "comparison"
    names = [row["name"] for row in csv.DictReader((folder / "comparison.csv").open())]
    assert names == [family["name"] for family in comparison["families"]]
    for plot in ("cost", "year", "time_curves", "token_curves"):
        assert (folder / f"{plot}.svg").read_text().startswith("<svg")
    page = (evolution / "report.html").read_text()
    assert "Against the year of the paper" in page and 'src="http' not in page
    shown = arriero("show", folder).stdout
    assert "Bits per byte" in shown and comparison["verdicts"][0]["sentence"] in " ".join(shown.split())


def test_the_plan_prices_every_stage(
    arriero, repository: Path, tmp_path: Path, evolution: Path, first_plan
) -> None:
    done = arriero("plan", repository / "recipes" / "evolution.yaml", "--out", tmp_path / "new", "--json")
    for plan, limit in ((json.loads(done.stdout), 45 * 60), (first_plan(evolution), 60)):
        for stage in plan["stages"]:
            seconds = stage["estimate"]["seconds"]
            assert seconds["basis"] != "unknown", f"{stage['name']}: {seconds['source']}"
        assert plan["total"]["seconds"]["value"] < limit


def test_both_recipes_walk_the_same_road(repository: Path) -> None:
    """Same kinds and families; the real one with three seeds of every net."""
    real, smoke = (
        yaml.safe_load((repository / "recipes" / name).read_text())["stages"]
        for name in ("evolution.yaml", "evolution-smoke.yaml")
    )
    assert set(smoke) <= set(real) and set(real) - set(smoke) == {"ngram-7"}
    for name, family in NETS.items():
        assert real[name]["family"] == smoke[name]["family"] == family
        assert len(real[name]["seeds"]) >= 3
        assert real[name]["duration"] == real["llama"]["duration"]
