"""Plan, run, reuse, stop and go on: the walks over three toy stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from arriero.artifacts import Artifact
from arriero.cost.ledger import Ledger
from arriero.errors import ArrieroError, BudgetError, DamagedArtifactError, Interrupted
from arriero.recipe.context import read_metrics
from arriero.recipe.execute import METER
from arriero.recipe.progress import PlainDisplay
from arriero.recipe.run import run_plan
from arriero.recipe.runfolder import RunFolder, Workplace
from arriero.recipe.stop import StopFlag
from arriero.recipe.walks import make_plan, make_report, parse_size, run_recipe


def ran() -> list[str]:
    from arriero import stage as contract

    module = sys.modules[contract._registry["gather"].__module__]
    names = list(module.RUNS)
    module.RUNS.clear()
    return names


def run(recipe: Path, out: Path, **options: object) -> dict[str, Artifact]:
    return run_recipe(recipe, out=out, **options).artifacts  # type: ignore[arg-type]


def test_run_makes_every_artifact_and_the_second_run_reuses_all(toy_recipe: Path, tmp_path: Path) -> None:
    first = run(toy_recipe, tmp_path / "out")
    assert ran() == ["gather", "words", "merge"]
    assert first["words"].file("words.txt").read_text().split()[0] == "one"
    second = run(toy_recipe, tmp_path / "out")
    assert ran() == []
    assert {n: a.path for n, a in first.items()} == {n: a.path for n, a in second.items()}
    assert (tmp_path / "out" / "words").resolve() == first["words"].path
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_change_redoes_exactly_the_stages_below_it(toy_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(toy_recipe, out)
    ran()
    run(toy_recipe, out, sets=("words.size=11",))  # same words, so `both` finds its inputs unchanged
    assert ran() == ["words"]
    run(toy_recipe, out, sets=("words.lower=false",))
    assert ran() == ["words", "merge"]
    run(toy_recipe, out, sets=("both.sort=true",))
    assert ran() == ["merge"]
    (tmp_path / "a.txt").write_text("Other words here.")
    run(toy_recipe, out)
    assert ran() == ["gather", "words", "merge"]
    (tmp_path / "a.txt").write_text("One two three. One two three.")
    run(toy_recipe, out)
    assert ran() == [], "going back finds the older artifacts again"


def test_a_setting_that_says_how_and_not_what_redoes_nothing(toy_recipe: Path, tmp_path: Path) -> None:
    run(toy_recipe, tmp_path / "out")
    ran()
    run(toy_recipe, tmp_path / "out", sets=("texts.patience=0.01",))
    assert ran() == []


def test_a_new_stage_version_redoes_the_stage(
    toy_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arriero import stage as contract

    run(toy_recipe, tmp_path / "out")
    ran()
    monkeypatch.setattr(contract._registry["words"], "version", 2)
    run(toy_recipe, tmp_path / "out")
    assert ran() == ["words"]


def test_plan_is_stored_before_anything_runs_and_its_hash_is_in_the_ledger(
    toy_recipe: Path, tmp_path: Path
) -> None:
    plan, folder = make_plan(toy_recipe, out=tmp_path / "out")
    seen: list[bool] = []
    with folder.locked():
        run_plan(
            plan,
            folder,
            PlainDisplay(),
            StopFlag(),
            before=lambda path: seen.append(path.is_file() and ran() == []),
        )
    assert seen == [True]
    lines = Ledger(folder.ledger).read()
    assert [line["type"] for line in lines] == ["plan", "stage", "stage", "stage"]
    assert lines[2]["measured"]["estimate"]["flops"]["value"] == 123.0
    stored = next(folder.plans.iterdir())
    stored.write_text(stored.read_text().replace('"name": "texts"', '"name": "texta"'))
    with pytest.raises(ArrieroError, match="plan"):
        Ledger(folder.ledger).read()


def test_plan_json_holds_every_quantity_with_its_basis(toy_recipe: Path, tmp_path: Path) -> None:
    plan, _ = make_plan(toy_recipe, out=tmp_path / "out")
    data = json.loads(json.dumps(plan.to_json()))
    assert [stage["name"] for stage in data["stages"]] == ["texts", "words", "both"]
    for stage in data["stages"]:
        assert set(stage["estimate"]) == {"seconds", "peak_memory", "flops", "energy", "co2", "money"}
        assert all(
            q["basis"] in ("measured", "modelled", "declared", "unknown") for q in stage["estimate"].values()
        )
    assert data["total"]["seconds"]["value"] == pytest.approx(7.0)
    assert data["total"]["peak_memory"]["value"] == pytest.approx(300e6)
    assert data["rests_on"] and data["left_out"]


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ({"max_seconds": 4.0}, "stage 'words' (up to 6.00 s) breaks it; stages up to 'texts' would fit"),
        ({"max_seconds": 0.5}, "no stage would fit"),
        ({"max_money": 1e-9}, "--max-money"),
        ({"max_memory": "200MB"}, "stage 'words' may need up to 330 MB"),
    ],
)
def test_limits_refuse_before_anything_starts(
    toy_recipe: Path, tmp_path: Path, limit: dict[str, object], says: str
) -> None:
    with pytest.raises(BudgetError) as error:
        run(toy_recipe, tmp_path / "out", **limit)
    assert says in str(error.value)
    assert error.value.exit_code == 3
    assert ran() == []
    assert list((tmp_path / "out" / "artifacts").iterdir()) == []


def test_reused_stages_count_nothing_against_a_limit(toy_recipe: Path, tmp_path: Path) -> None:
    run(toy_recipe, tmp_path / "out")
    run(toy_recipe, tmp_path / "out", max_seconds=0.001)
    plan, _ = make_plan(toy_recipe, out=tmp_path / "out")
    assert plan.ahead == []


def test_a_damaged_artifact_is_named_and_the_rest_is_untouched(toy_recipe: Path, tmp_path: Path) -> None:
    made = run(toy_recipe, tmp_path / "out")
    file = made["words"].file("words.txt")
    file.write_text("cut")
    with pytest.raises(DamagedArtifactError, match=r"words\.txt has 3 bytes"):
        run(toy_recipe, tmp_path / "out")
    assert made["texts"].file("text.txt").read_text().startswith("One")


def test_two_runs_in_one_folder_do_not_meet(toy_recipe: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "out").locked(), pytest.raises(ArrieroError, match="another run is at work"):
        run(toy_recipe, tmp_path / "out")


def test_a_missing_raw_file_is_found_by_the_plan(toy_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ArrieroError, match=r"stage 'texts': .*a\.txt: no such file"):
        make_plan(toy_recipe, out=tmp_path / "out")


def test_stop_flag_interrupts_and_the_same_call_goes_on(toy_recipe: Path, tmp_path: Path) -> None:
    plan, folder = make_plan(toy_recipe, out=tmp_path / "out", sets=("texts.patience=90",))
    stop = StopFlag()

    def stop_what_has_begun() -> None:
        deadline = time.monotonic() + 60
        while not list(folder.artifacts.glob(".*.state/begun")) and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()

    threading.Thread(target=stop_what_has_begun).start()
    with folder.locked(), pytest.raises(Interrupted) as error:
        run_plan(plan, folder, PlainDisplay(), stop)
    assert error.value.exit_code == 75
    assert list(folder.artifacts.glob("[!.]*")) == []
    place = Workplace(next(folder.artifacts.glob(".*.state")))
    assert (place.final / METER).exists(), "the seconds spent so far are kept"
    began = time.monotonic()
    run(toy_recipe, tmp_path / "out", sets=("texts.patience=90",))
    assert time.monotonic() - began < 60, "the marker in the state folder survived"
    assert list(folder.artifacts.glob(".*")) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_with_the_resumable_code(
    toy_recipe: Path, tmp_path: Path, number: signal.Signals
) -> None:
    code = (
        "import sys, pytest; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "from arriero import stage\n"
        "stage.STAGES.clear(); stage.STAGES.update(dict.fromkeys(conftest.TOY, 'conftest')); stage._registry.update(conftest.TOY)\n"
        "sys.argv = ['arriero', *sys.argv[2:]]\n"
        "from arriero.cli import main\nmain()\n"
    )
    command = [
        sys.executable, "-c", code, str(Path(__file__).parent), "run", str(toy_recipe),
        "--out", str(tmp_path / "out"), "--set", "texts.patience=60",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=os.environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/artifacts/.*.state/begun")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "the same command continues" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_failing_report_folder_is_clear(tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="no run"):
        make_report(tmp_path / "nothing")


def test_metrics_repeated_after_a_resume_count_once(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    lines = [{"step": s, "loss": 1.0 / s} for s in (1, 2, 3, 4)] + [
        {"step": s, "loss": 9.0} for s in (3, 4, 5)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6, "lo')
    read = read_metrics(path)
    assert [line["step"] for line in read] == [1, 2, 3, 4, 5]
    assert read[2]["loss"] == 9.0


@pytest.mark.parametrize(
    ("text", "value"), [("4GB", 4e9), ("512 MiB", 512 * 2**20), ("1000", 1000), ("1.5g", 1.5e9)]
)
def test_sizes(text: str, value: float) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "four", "4XB", "1..2GB", "-3GB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ArrieroError, match="is not a size"):
        parse_size(text)


def test_progress_lines_are_plain_when_there_is_no_terminal(
    toy_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(toy_recipe, tmp_path / "out")
    err = capsys.readouterr().err
    assert "[1/3] texts (gather)" in err and "\x1b" not in err


def test_the_printed_plan_says_what_it_rests_on(toy_recipe: Path, tmp_path: Path) -> None:
    from arriero.recipe.printing import print_plan

    plan, _ = make_plan(toy_recipe, out=tmp_path / "out")
    console = Console(record=True, width=160, quiet=False, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    print_plan(plan, console)
    text = console.export_text()
    assert "Rests on" in text and "device profile" in text and "Left out" in text
    assert "words: a note" in text
