"""The second walk: the same stages, for real."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arriero.artifacts import Artifact
from arriero.artifacts.commit import write_json_atomic
from arriero.artifacts.hashing import sha256_file
from arriero.cost import Estimate
from arriero.cost.ledger import Ledger
from arriero.cost.ledger_corrections import fingerprint
from arriero.cost.meter import Measurement
from arriero.cost.units import format_seconds
from arriero.errors import ArrieroError, Interrupted
from arriero.recipe.execute import Job, execute, input_contents
from arriero.recipe.inputs import open_outside
from arriero.recipe.keys import stage_key
from arriero.recipe.plan import PlannedStage, RecipePlan
from arriero.recipe.progress import Display
from arriero.recipe.runfolder import RunFolder
from arriero.recipe.schema import InputRef, Step
from arriero.recipe.stop import StopFlag


@dataclass
class RunResult:
    """What a run left: the artifacts by stage name, and which of them were made now."""

    folder: Path
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)


def store_plan(plan: RecipePlan, folder: RunFolder) -> Path:
    """Write the plan before anything runs, and its hash to the ledger, so that it cannot be edited after."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    path = folder.plans / f"plan-{stamp}.json"
    write_json_atomic(path, plan.to_json())
    shutil.copyfile(plan.recipe.path, folder.path / "recipe.yaml")
    Ledger(folder.ledger).append(
        {
            "type": "plan",
            "at": plan.made_at,
            "file": f"plans/{path.name}",
            "sha256": sha256_file(path),
            "recipe": plan.recipe.name,
            "device": fingerprint(plan.device),
            "stages": {s.step.name: s.estimate.model_dump(mode="json") for s in plan.ahead},
        }
    )
    return path


class Runner:
    """Runs the stages of a plan in a locked run folder."""

    def __init__(
        self,
        plan: RecipePlan,
        folder: RunFolder,
        display: Display,
        stop: StopFlag,
        events: Path | None = None,
    ) -> None:
        self.plan = plan
        self.events = events
        self.folder = folder
        self.display = display
        self.stop = stop
        self.result = RunResult(folder.path)

    def run(self) -> RunResult:
        """Run or reuse every stage in order.

        Raises:
            Interrupted: asked to stop; the same command continues.
            ArrieroError: what a stage complains of, with its name.
        """
        count = len(self.plan.stages)
        for number, planned in enumerate(self.plan.stages, start=1):
            name = planned.step.name
            if self.stop:
                raise Interrupted(f"stopped before stage '{name}'; the same command continues")
            try:
                artifact = self._one(planned, number, count)
            except ArrieroError as error:
                raise type(error)(f"stage '{name}': {error}") from error
            self.result.artifacts[name] = artifact
            self.folder.link(name, artifact)
        return self.result

    def _inputs(self, step: Step) -> dict[str, list[Artifact]]:
        return {role: [self._artifact(ref, step, role) for ref in refs] for role, refs in step.inputs.items()}

    def _artifact(self, ref: InputRef, step: Step, role: str) -> Artifact:
        if ref.stage is not None:
            return self.result.artifacts[ref.stage]
        assert ref.path is not None
        return open_outside(ref.path, step.stage.inputs[role].type)

    def _one(self, planned: PlannedStage, number: int, count: int) -> Artifact:
        step = planned.step
        inputs = self._inputs(step)
        key = stage_key(step.stage, step.settings, input_contents(inputs))
        self.display.start(step.name, step.stage.kind, number, count)
        existing = self.folder.find(key, hashes=True)
        if existing is not None:
            self.result.reused.append(step.name)
            self._record(step.name, key, None, None, existing, reused=True)
            self.display.finish(f"{step.name}: reused ({existing.path.name})")
            return existing
        job = Job(step, inputs, key, self.folder.final(step.name, key), self.events)
        artifact, measured = execute(job, self.display, self.stop, self.plan.tariffs)
        self.result.made.append(step.name)
        self._record(step.name, key, planned, measured, artifact, reused=False)
        self.display.finish(_finished_line(step.name, planned.estimate, measured))
        return artifact

    def _record(
        self, name: str, key: str, planned: PlannedStage | None, measured: Measurement | None,
        artifact: Artifact, *, reused: bool,
    ) -> None:  # fmt: skip
        line: dict[str, Any] = {
            "type": "stage",
            "name": name,
            "kind": artifact.manifest.kind,
            "key": key,
            "reused": reused,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if planned is not None and measured is not None:
            line["predicted"] = planned.estimate.model_dump(mode="json")
            line["corrected"] = planned.corrected
            line["measured"] = measured.model_dump(mode="json")
        Ledger(self.folder.ledger).append(line)


def _finished_line(name: str, predicted: Estimate, measured: Measurement) -> str:
    seconds = measured.estimate.seconds.value or 0.0
    line = f"{name}: {format_seconds(seconds)}"
    if predicted.seconds.value:
        line += f" (planned {format_seconds(predicted.seconds.value)})"
    return line


def run_plan(
    plan: RecipePlan, folder: RunFolder, display: Display, stop: StopFlag,
    before: Callable[[Path], None] | None = None, events: Path | None = None,
) -> RunResult:  # fmt: skip
    """Store the plan, then run it in the (already locked) folder.

    Args:
        before: gets the stored plan's path.
        events: folder below which metrics are written for TensorBoard too.
    """
    path = store_plan(plan, folder)
    if before is not None:
        before(path)
    with stop.on_signals(display):
        return Runner(plan, folder, display, stop, events).run()
