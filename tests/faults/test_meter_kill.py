"""A run killed five times from outside, at random moments: the ledger counts each second once, whatever is asked when."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arriero.cost.ledger import Ledger
from arriero.recipe.ledger_project import read_project
from arriero.recipe.ledger_sums import Spent
from arriero.recipe.runfolder import RunFolder

RUNNER = '''
import sys, time
from pathlib import Path
from arriero import stage as contract
from arriero.stage import CorpusSpec, Outcome, Plan, SplitSpec, Stage, StageSettings
from arriero.cost import Estimate, Quantity

sys.path.insert(0, sys.argv[1])
import conftest as toys

SPEC = CorpusSpec(splits={"train": SplitSpec(documents=1, bytes=1)})

class Patient(Stage):
    """Works until it is told that it is enough."""
    kind, makes, help = "patient", "corpus", "Work."
    class Settings(StageSettings):
        pass
    def plan(self, settings, specs, device):
        return Plan(SPEC, Estimate(seconds=Quantity.band(1.0, 0.5, "s", "modelled", "test")))
    def run(self, settings, inputs, context):
        print("at work", flush=True)
        while not Path(sys.argv[4]).exists():
            sum(range(10000))
        (context.folder / "text.txt").write_text("x")
        return Outcome(SPEC)

contract.STAGES = {"patient": "x"}
contract._registry = {"patient": Patient}
from arriero.cost.device import save_profile
save_profile(toys.made_up_profile())
from arriero.recipe.walks import run_recipe
run_recipe(Path(sys.argv[2]), out=Path(sys.argv[3]))
'''


LOST, OVER = 2.0, 0.5
"""Seconds that a kill may lose (what came after the last sample, one a second, which a busy machine takes late), and that
starting may add."""


class Killed:
    """The recipe at work in a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], toys: Path) -> None:
        self.out, self.enough = folder / "runs" / "one", folder / "enough"
        (folder / "patient.yaml").write_text("name: patient\nstages:\n  patient: {}\n")
        self.command = [
            sys.executable, "-c", RUNNER, str(toys), str(folder / "patient.yaml"), str(self.out), str(self.enough)
        ]  # fmt: skip
        self.environment = {**environment, "ARRIERO_HOME": str(folder / "home")}

    def start(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "at work\n"
        return child

    def seconds(self) -> float:
        return Spent.of("", read_project([RunFolder(self.out)]).made).known["seconds"].value or 0.0


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 6])
def test_five_kills_and_each_second_counts_once(
    tmp_path: Path, repository: Path, cli_environment: dict[str, str], seed: int
) -> None:
    chance = random.Random(seed)
    run = Killed(tmp_path, cli_environment, repository / "tests" / "recipe")
    seen, kills = 0.0, 5
    for kill in range(1, kills + 1):
        child = run.start()
        begun = time.monotonic()
        time.sleep(chance.uniform(0.2, 3.0))
        child.send_signal(signal.SIGKILL)
        seen += time.monotonic() - begun
        child.communicate()
        assert seen - kill * LOST <= run.seconds() <= seen + kill * OVER, f"after kill {kill}"
    child = run.start()
    begun = time.monotonic()
    run.enough.touch()
    child.communicate()
    assert child.returncode == 0
    seen += time.monotonic() - begun
    records = [record for record in Ledger(run.out / "ledger.jsonl").read() if "measured" in record]
    assert [record["measured"]["segments"] for record in records] == [kills + 1]
    assert seen - (kills + 1) * LOST <= run.seconds() <= seen + (kills + 1) * OVER
    project = read_project([RunFolder(run.out)])
    assert [one.outcome for one in project.runs] == ["stopped at patient"] * kills + ["finished"]
    assert project.loose == [], (
        "what the killed runs took is in the finished stage's record, and nowhere else"
    )
