"""One stage by itself: `arriero pretrain …` and `arriero.run_stage("pretrain", …)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arriero.artifacts import Artifact
from arriero.artifacts.manifest import MANIFEST
from arriero.cost.device import DeviceProfile
from arriero.cost.ledger_corrections import Corrections
from arriero.cost.meter import Measurement
from arriero.cost.tariffs import Tariffs, price
from arriero.errors import ArrieroError, did_you_mean
from arriero.recipe.execute import Job, execute, input_contents
from arriero.recipe.inputs import open_outside
from arriero.recipe.keys import stage_key
from arriero.recipe.plan import PlannedStage, artifact_names, by_role, spec_of
from arriero.recipe.progress import Display
from arriero.recipe.schema import Step
from arriero.recipe.stop import StopFlag
from arriero.recipe.validation import Loc, validate
from arriero.stage import get_stage


def single_step(kind: str, settings: Mapping[str, Any], *, base: Path, option: bool = False) -> Step:
    """A step outside any recipe. ``option`` words complaints as command-line options.

    Raises:
        ArrieroError: a setting is unknown, missing or wrong.
    """

    def fail(loc: Loc, message: str) -> ArrieroError:
        flag = f"--{str(loc[0]).replace('_', '-')}: " if option and loc else ""
        return ArrieroError(f"{kind}: {flag}{message}")

    stage = get_stage(kind)
    checked = validate(stage.Settings, dict(settings), base=base, fail=fail)
    if checked.seed is None:
        checked = checked.model_copy(update={"seed": 1})
    return Step(kind, stage, checked)


def open_inputs(step: Step, inputs: Mapping[str, Sequence[Path]]) -> dict[str, list[Artifact]]:
    """The input artifacts by role.

    Raises:
        ArrieroError: a role is unknown or missing, or a folder is not what it should be.
    """
    takes = step.stage.inputs
    for role in inputs:
        if role not in takes:
            raise ArrieroError(f"{step.stage.kind} has no input '{role}'{did_you_mean(role, takes)}")
    for role, spec in takes.items():
        if not inputs.get(role) and not spec.optional:
            raise ArrieroError(f"{step.stage.kind} lacks its input '{role}': {spec.help}")
        if len(inputs.get(role, ())) > 1 and not spec.many:
            raise ArrieroError(f"{step.stage.kind}: input '{role}' takes one artifact")
    return {
        role: [open_outside(path, takes[role].type) for path in paths]
        for role, paths in inputs.items()
        if paths
    }


def plan_single(
    step: Step, inputs: dict[str, list[Artifact]], device: DeviceProfile, tariffs: Tariffs,
    own: Corrections | None = None,
) -> PlannedStage:  # fmt: skip
    """What the stage will make of these inputs, and what that costs."""
    specs = {role: [spec_of(artifact) for artifact in items] for role, items in inputs.items()}
    plan = step.stage.plan(step.settings, by_role(step, specs, artifact_names(inputs)), device)
    return PlannedStage(
        step, plan.spec, price(plan.estimate, device, tariffs, step.stage.kind, own), plan.notes
    )


def run_single(
    step: Step, inputs: dict[str, list[Artifact]], out: Path, display: Display, stop: StopFlag, tariffs: Tariffs,
    events: Path | None = None,
) -> tuple[Artifact, Measurement | None]:  # fmt: skip
    """Run the stage into the folder ``out``; the same command again reuses what is there.

    Raises:
        ArrieroError: ``out`` holds something else.
    """
    key = stage_key(step.stage, step.settings, input_contents(inputs))
    if (out / MANIFEST).exists():
        artifact = Artifact.open(out, hashes=True)
        if artifact.manifest.key == key:
            return artifact, None
        raise ArrieroError(f"{out} holds another artifact; remove it or choose another folder with --out")
    if out.exists():
        raise ArrieroError(f"{out} exists and is no artifact; choose another folder with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    display.start(step.name, step.stage.kind, 1, 1)
    with stop.on_signals(display):
        artifact, measured = execute(Job(step, inputs, key, out, events), display, stop, tariffs)
    return artifact, measured
