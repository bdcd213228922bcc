"""`arriero ledger`: runs, sums that count each second once, errors, and what later plans learn."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from arriero.artifacts.manifest import MANIFEST
from arriero.cli import cli
from arriero.cost import Estimate, Quantity
from arriero.cost.device import load_profile, save_profile
from arriero.cost.ledger import Ledger
from arriero.cost.ledger_corrections import fingerprint
from arriero.cost.meter import Measurement
from arriero.cost.meter_file import MeterFile, Segment, read_samples
from arriero.cost.tariffs import Tariffs
from arriero.errors import ArrieroError, DamagedArtifactError
from arriero.recipe.execute import METER
from arriero.recipe.ledger_errors import all_rows, by_kind, by_quantity, error_plot, over_time
from arriero.recipe.ledger_project import Made, read_project, run_folders
from arriero.recipe.ledger_sums import Spent, programme_lines
from arriero.recipe.printing import print_plan
from arriero.recipe.runfolder import RunFolder
from arriero.recipe.walks import make_plan, run_recipe


def ledger(*args: object) -> str:
    done = CliRunner().invoke(cli, ["ledger", *map(str, args)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def seconds_of(folder: Path) -> float:
    return sum(
        record["measured"]["estimate"]["seconds"]["value"]
        for record in Ledger(folder / "ledger.jsonl").read()
        if "measured" in record
    )


@pytest.fixture
def runs(toy_recipe: Path, tmp_path: Path) -> Path:
    """A project of two run folders: one run and one reuse in the first, a changed run in the second."""
    project = tmp_path / "runs"
    run_recipe(toy_recipe, out=project / "one")
    run_recipe(toy_recipe, out=project / "one")
    run_recipe(toy_recipe, out=project / "two", sets=("words.size=11",))
    return project


def test_runs_are_listed_with_what_became_of_them(runs: Path) -> None:
    found = json.loads(ledger(runs, "--json"))["runs"]
    assert [(row["recipe"], row["made"], row["reused"], row["outcome"]) for row in found] == [
        ("toy", 3, 0, "finished"), ("toy", 0, 3, "finished"), ("toy", 3, 0, "finished"),
    ]  # fmt: skip
    assert found[0]["seconds"] == pytest.approx(seconds_of(runs / "one"))
    assert found[1]["seconds"] == 0
    text = ledger(runs)
    assert text.count("finished") == 3 and "toy" in text
    rows = list(csv.DictReader(io.StringIO(ledger(runs, "--csv"))))
    assert [row["made"] for row in rows] == ["3", "0", "3"]


def test_the_sum_counts_each_second_once(runs: Path) -> None:
    expected = seconds_of(runs / "one") + seconds_of(runs / "two")
    found = json.loads(ledger(runs, "--sum", "--json"))
    assert found["total"]["seconds"]["value"] == pytest.approx(expected)
    assert found["total"]["stages"] == 6 and found["runs"] == 3
    assert [kind["name"] for kind in found["kinds"]] == ["gather", "merge", "words"]
    assert sum(kind["seconds"]["value"] for kind in found["kinds"]) == pytest.approx(expected)
    shutil.copytree(runs / "one", runs / "copy", symlinks=True)
    twice = json.loads(ledger(runs, runs / "one", runs / "copy", "--sum", "--json"))
    assert twice["total"]["seconds"]["value"] == pytest.approx(expected), "a copy holds the same seconds"
    text = ledger(runs, "--sum")
    assert "total" in text and "100 % of this energy is assumed" in text and "CO2" not in text
    rows = list(csv.DictReader(io.StringIO(ledger(runs, "--sum", "--csv"))))
    assert float(rows[-1]["seconds"]) == pytest.approx(expected)


def test_what_a_killed_run_took_is_in_the_sum_before_and_after_it_goes_on(
    toy_recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs" / "one"
    run_recipe(toy_recipe, out=out, until="texts")
    folder = RunFolder(out)
    state = folder.artifacts / ".words-123456789abc.state"
    state.mkdir()
    left = MeterFile(state / METER)
    left.begin("2026-11-21T00:00:00")
    for second in range(4):
        left.add(Segment(wall_seconds=second, cpu_seconds=second, steal_seconds=0, peak_bytes=9, flops=0))
    left.close()
    project = read_project([folder])
    assert [(one.stage, one.finished) for one in project.loose] == [("words", False)]
    assert Spent.of("", project.made).known["seconds"].value == pytest.approx(seconds_of(out) + 3)
    assert "words: not finished, 3.00 s so far" in ledger(out)
    assert "not finished" in ledger(out, "--sum")


def test_an_artifact_whose_record_was_never_written_is_counted_from_its_manifest(
    toy_recipe: Path, tmp_path: Path
) -> None:
    """Killed between the commit of the artifact and the ledger's line."""
    out = tmp_path / "runs" / "one"
    run_recipe(toy_recipe, out=out)
    records = Ledger(out / "ledger.jsonl").read()
    whole = seconds_of(out)
    lost = Ledger(out / "ledger.jsonl")
    lost.path.unlink()
    lost.head.unlink()
    for record in records[:-1]:
        lost.append(record)
    project = read_project([RunFolder(out)])
    assert [one.stage for one in project.loose] == ["both"]
    assert Spent.of("", project.made).known["seconds"].value == pytest.approx(whole)
    assert project.runs[0].outcome == "stopped at both"
    run_recipe(toy_recipe, out=out)  # finds it and reuses it
    project = read_project([RunFolder(out)])
    assert Spent.of("", project.made).known["seconds"].value == pytest.approx(whole)
    assert project.runs[-1].outcome == "finished"


def test_a_run_that_was_stopped_and_one_at_work_say_so(toy_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    script = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nimport conftest as toys\nfrom arriero import stage as contract\n"
        "contract.STAGES = dict.fromkeys(toys.TOY, 'conftest')\ncontract._registry = dict(toys.TOY)\n"
        "from pathlib import Path\nfrom arriero.recipe.walks import run_recipe\n"
        "run_recipe(Path(sys.argv[2]), out=Path(sys.argv[3]), sets=('texts.patience=60',))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(toy_recipe), str(out)],
        env={**os.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("artifacts/.texts-*.state/begun")) and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert child.poll() is None
        assert json.loads(ledger(out, "--json"))["runs"][0]["outcome"] == "at work on texts"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert json.loads(ledger(out, "--json"))["runs"][0]["outcome"] == "stopped at texts"
    before = json.loads(ledger(out, "--sum", "--json"))["total"]["seconds"]["value"]
    run_recipe(toy_recipe, out=out)
    project = read_project([RunFolder(out)])
    assert [run.outcome for run in project.runs] == ["stopped at texts", "finished"]
    assert project.loose == []
    (texts,) = (one for one in project.made if one.stage == "texts")
    assert texts.measured.segments == 2
    assert (texts.measured.estimate.seconds.value or 0) >= before


def test_a_changed_ledger_is_refused_by_every_view(runs: Path) -> None:
    file = runs / "two" / "ledger.jsonl"
    text = file.read_text()
    file.write_text(text.replace('"words"', '"wordz"', 1))
    for view in ((), ("--sum",), ("--errors",), ("--refit",)):
        with pytest.raises(DamagedArtifactError, match="was changed"):
            ledger(runs, *view)
    file.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(DamagedArtifactError, match="cut short"):
        ledger(runs, "--sum")


def test_where_nothing_was_run_is_one_clear_line(toy_stages: None, tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="no run has left a ledger"):
        run_folders([tmp_path])


# ------------------------------------------------------------ errors


def plain(
    seconds: float, joules: float | None = None, *, unit: str = "USD", assumed: float = 0.0
) -> Measurement:
    sheet = Estimate(
        seconds=Quantity.exact(seconds, "s", "measured"),
        energy=Quantity.exact(joules, "J", "measured" if assumed == 0 else "modelled")
        if joules is not None
        else Quantity.unknown("J"),
        money=Quantity.exact(seconds, unit, "modelled"),
    )
    share = assumed if joules is not None else None
    return Measurement(estimate=sheet, cpu_seconds=0, steal_seconds=0, segments=1, assumed_share=share)


def history(folder: Path, errors: list[float], kind: str = "pretrain", device: str = "") -> Ledger:
    """A ledger of stages that took 10 s and were predicted to take 10 s x (1 + error), within 20 %."""
    found = Ledger(folder / "ledger.jsonl")
    for number, error in enumerate(errors):
        at = f"2026-11-{number + 1:02d}T00:00:00"
        predicted = Estimate(seconds=Quantity.band(10 * (1 + error), 0.2, "s", "modelled"))
        found.append({"type": "plan", "at": at, "device": device, "recipe": "made", "stages": {}})
        found.append(
            {"type": "stage", "name": "base", "kind": kind, "key": str(number), "reused": False, "at": at,
             "predicted": predicted.model_dump(mode="json"), "measured": plain(10.0).model_dump(mode="json")}
        )  # fmt: skip
    return found


def test_errors_by_quantity_kind_and_time(tmp_path: Path, toy_stages: None) -> None:
    first = history(tmp_path / "a", [0.4, 0.4, 0.4, 0.4, 0.1, 0.1, 0.1, 0.1])
    second = history(tmp_path / "b", [-0.5], "sft")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    rows, notes = all_rows([first, second, Ledger(tmp_path / "copy" / "ledger.jsonl")])
    assert len(rows) == 9 and notes == []
    (seconds,) = by_quantity(rows)
    assert (seconds.quantity, seconds.runs) == ("seconds", 9)
    assert seconds.bias == pytest.approx(0.1) and seconds.size == pytest.approx((4 * 0.4 + 4 * 0.1 + 0.5) / 9)
    assert seconds.worst == pytest.approx(-0.5) and seconds.inside == pytest.approx(4 / 9)
    kinds = {line.group: line for line in by_kind(rows)}
    assert kinds["pretrain"].bias == pytest.approx(0.25) and kinds["sft"].bias == pytest.approx(-0.5)
    early, *_, late = over_time([row for row in rows if row.kind == "pretrain"])
    assert (early.bias, late.bias) == pytest.approx((0.4, 0.1))
    assert (early.inside, late.inside) == (0.0, 1.0) and early.last < late.first
    plot = error_plot(rows)
    assert "o" in plot and "x" in plot and "+40 %" in plot and "run 9" in plot
    text = ledger(tmp_path, "--errors")
    assert "+10.0%" in text and "pretrain" in text and "inside band" in text
    data = json.loads(ledger(tmp_path, "--errors", "--json"))
    assert len(data["rows"]) == 9 and data["by_kind"][1]["group"] == "sft"


def test_a_modelled_energy_is_no_truth_to_judge_a_prediction_by(tmp_path: Path) -> None:
    found = Ledger(tmp_path / "ledger.jsonl")
    predicted = Estimate(energy=Quantity.band(10, 0.2, "J", "modelled"))
    for assumed in (0.0, 1.0):
        found.append(
            {"type": "stage", "name": "base", "kind": "x", "at": "", "predicted": predicted.model_dump(mode="json"),
             "measured": plain(1.0, 20.0, assumed=assumed).model_dump(mode="json"), "n": assumed}
        )  # fmt: skip
    rows, _ = all_rows([found])
    assert [row.quantity for row in rows] == ["energy"]
    assert error_plot(rows) == ""


def test_an_empty_ledger_has_no_errors(runs: Path, tmp_path: Path) -> None:
    Ledger(tmp_path / "new" / "ledger.jsonl").append({"type": "plan", "at": "", "stages": {}})
    assert "no stage has both" in ledger(tmp_path / "new", "--errors")


# ------------------------------------------------------------ sums


def made(name: str, measured: Measurement, kind: str = "x") -> Made:
    return Made("", name, kind, measured, name)


def test_a_sum_tells_its_unknown_parts_its_currencies_and_what_is_assumed() -> None:
    spent = Spent.of(
        "all",
        [made("a", plain(10, 68.0, assumed=1.0)), made("b", plain(5, 32.0)), made("c", plain(5, unit="EUR"))],
    )
    assert spent.known["seconds"].value == 20 and spent.text("seconds") == "20.0 s"
    assert spent.assumed_share == pytest.approx(0.68)
    assert spent.text("energy") == "at least 28 mWh, 1 unknown"
    assert spent.text("money") == "15.00 USD + 5.00 EUR"
    assert spent.text("co2") == "unknown"
    assert spent.known["energy"].source == "32 % measured, 68 % modelled"


def test_the_programme_has_its_own_lines() -> None:
    this = Estimate(
        seconds=Quantity.exact(100.0, "s", "modelled"), energy=Quantity.exact(3.6e6, "J", "modelled")
    )
    before = [made("a", plain(50, 68.0, assumed=1.0)), made("b", plain(50, 32.0))]
    lines = programme_lines(this, before, "runs/", Tariffs.load({"water": 1.0, "pue": 1.0}), runs=2)
    assert lines[0].startswith("this run: 1.7 min")
    assert lines[1].startswith("this project so far, 2 runs in runs/: 1.67 min")
    assert "68 % of this energy is assumed" in lines[1]
    assert "1.5 to 5.6 times the final one, here 2.5 min to 9.3 min" in lines[2] and "OLMo" in lines[2]
    assert lines[3].startswith("water: 1 L")
    assert len(programme_lines(this, [], "runs/", Tariffs.load(), runs=0)) == 3


def test_plan_and_report_show_the_programme_and_water_only_when_asked(runs: Path, toy_recipe: Path) -> None:
    plan, _ = make_plan(toy_recipe, out=runs / "three")
    assert "this project so far, 3 runs in runs/" in plan.programme[1]
    assert not any("water" in line for line in plan.programme)
    out = Console(record=True, width=200, file=io.StringIO())
    print_plan(plan, out)
    text = out.export_text()
    assert "The whole programme" in text and "1.5 to 5.6 times" in text
    assert "CO2: both the power and the grid are assumed" in text and "g CO2" not in text
    plan, _ = make_plan(toy_recipe, out=runs / "three", sets=("cost.water=1.3", "cost.region=FRA"))
    assert any(line.startswith("water: ") for line in plan.programme)
    assert plan.total.co2.known and "grid: 56" in " ".join(plan.rests_on())
    page = (runs / "two" / "report.html").read_text()
    assert "The whole programme" in page and "CO₂" not in page
    written = json.loads((runs / "two" / "report.json").read_text())
    assert written["programme"][0].startswith("this run: ")


def test_a_damaged_neighbour_does_not_stop_a_plan(runs: Path, toy_recipe: Path) -> None:
    file = runs / "one" / "ledger.jsonl"
    file.write_text(file.read_text().replace('"words"', '"wordz"', 1))
    plan, _ = make_plan(toy_recipe, out=runs / "two")
    assert any("not in these figures" in line and "was changed" in line for line in plan.programme)


def test_overrides_by_command_are_checked_like_those_in_the_recipe(toy_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="did you mean 'pue'"):
        make_plan(toy_recipe, out=tmp_path / "x", sets=("cost.peu=1.2",))
    plan, _ = make_plan(toy_recipe, out=tmp_path / "x", sets=("cost.price_per_hour=3.6",))
    assert plan.total.money.value == pytest.approx(0.001 * (plan.total.seconds.value or 0))


# ------------------------------------------------------------ learning


def test_after_a_refit_the_next_plan_is_right(toy_recipe: Path, tmp_path: Path) -> None:
    profile = load_profile()
    assert profile is not None
    history(tmp_path / "runs" / "old", [0.3] * 12, "gather", fingerprint(profile))
    before, _ = make_plan(toy_recipe, out=tmp_path / "new")
    text = ledger(tmp_path / "runs", "--refit")
    assert "gather" in text and "12 new figures" in text
    after, _ = make_plan(toy_recipe, out=tmp_path / "new")
    ratio = [
        a.estimate.seconds.value / b.estimate.seconds.value
        for a, b in zip(after.stages, before.stages, strict=True)
    ]
    assert ratio == pytest.approx([1 / 1.3, 1, 1], rel=0.03)
    seconds = after.stages[0].estimate.seconds
    assert "12 own runs of 'gather'" in seconds.source
    old = before.stages[0].estimate.seconds
    assert seconds.high / seconds.low < old.high / old.low
    assert any("own runs here: they correct the predictions of gather" in line for line in after.rests_on())
    run_recipe(toy_recipe, out=tmp_path / "new")
    record = next(r for r in Ledger(tmp_path / "new" / "ledger.jsonl").read() if r.get("name") == "texts")
    assert record["corrected"]["seconds"] == pytest.approx(1 / 1.3, rel=0.03)
    assert "0 new figures" in ledger(tmp_path / "runs", "--refit")


def test_a_foreign_ledger_teaches_nothing(toy_recipe: Path, tmp_path: Path) -> None:
    history(tmp_path / "runs" / "old", [0.3] * 12, "gather", "fingerprint of another")
    before, _ = make_plan(toy_recipe, out=tmp_path / "new")
    assert "12 stages left out" in ledger(tmp_path / "runs", "--refit")
    after, _ = make_plan(toy_recipe, out=tmp_path / "new")
    assert after.total.seconds == before.total.seconds
    data: dict[str, Any] = json.loads(ledger(tmp_path / "runs", "--refit", "--json"))
    assert data["corrections"] == [] and data["foreign"] == 12


def test_what_was_learnt_goes_with_its_profile(toy_recipe: Path, tmp_path: Path) -> None:
    profile = load_profile()
    assert profile is not None
    history(tmp_path / "runs" / "old", [0.3] * 12, "gather", fingerprint(profile))
    ledger(tmp_path / "runs", "--refit")
    save_profile(profile.model_copy(update={"measured_at": "2026-11-22T00:00:00+00:00"}))
    plan, _ = make_plan(toy_recipe, out=tmp_path / "new")
    assert plan.stages[0].corrected == {}


def test_the_samples_stay_with_the_artifact(runs: Path) -> None:
    for artifact in ("texts", "words", "both"):
        manifest = json.loads((runs / "one" / artifact / MANIFEST).read_text())
        (process,) = read_samples(runs / "one" / artifact / "logs" / f"{METER}.gz")
        assert process[-1].ended
        assert process[-1].wall_seconds == pytest.approx(
            manifest["measured"]["estimate"]["seconds"]["value"], abs=1e-5
        )
    assert not list(runs.rglob(METER)), "and nothing is left of the making"
