"""The first walk: every stage says what it will make and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from arriero.artifacts import Artifact
from arriero.cost import Estimate, total_estimate
from arriero.cost.device import DeviceProfile
from arriero.cost.ledger_corrections import Corrections
from arriero.cost.tariffs import Tariffs, price
from arriero.errors import ArrieroError
from arriero.recipe.inputs import open_outside
from arriero.recipe.kept import with_kept
from arriero.recipe.keys import source_records, stage_key
from arriero.recipe.runfolder import RunFolder
from arriero.recipe.schema import InputRef, Recipe, Step
from arriero.stage import Spec, SpecOf

LEFT_OUT = (
    "downloading the data and writing the recipe",
    "the machine's own manufacture, and water (`cost: {water: true}` shows it)",
)


@dataclass(frozen=True)
class PlannedStage:
    """A step with its prediction, or with the artifact that makes it needless."""

    step: Step
    spec: Spec
    estimate: Estimate
    notes: list[str] = field(default_factory=list)
    reuse: Artifact | None = None
    corrected: dict[str, float] = field(default_factory=dict)
    """By quantity, the factor that own runs brought into the estimate."""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.step.name,
            "kind": self.step.stage.kind,
            "reused": self.reuse is not None,
            "settings": self.step.settings.model_dump(mode="json"),
            "inputs": {role: [str(ref) for ref in refs] for role, refs in self.step.inputs.items()},
            "spec": self.spec.model_dump(mode="json"),
            "estimate": self.estimate.model_dump(mode="json"),
            "notes": self.notes,
            "corrected": self.corrected,
        }


@dataclass(frozen=True)
class RecipePlan:
    """The plan of a recipe: its stages, their sum, and what the figures rest on."""

    recipe: Recipe
    stages: list[PlannedStage]
    device: DeviceProfile
    tariffs: Tariffs
    made_at: str
    programme: list[str] = field(default_factory=list)
    """This run beside the project so far and what projects usually come to; water where it was asked for."""

    @property
    def ahead(self) -> list[PlannedStage]:
        """Stages that are still to be run."""
        return [stage for stage in self.stages if stage.reuse is None]

    @property
    def total(self) -> Estimate:
        return total_estimate([stage.estimate for stage in self.ahead])

    def rests_on(self) -> list[str]:
        """The data behind the figures, with their dates, a line each."""
        device = self.device
        line = (
            f"device profile: {device.cpu}, {device.threads} threads, measured {device.measured_at[:10]} "
            f"with torch {device.versions.get('torch', '?')}"
        )
        kinds = list(dict.fromkeys(s.step.stage.kind for s in self.ahead if s.corrected))
        learnt = [f"own runs here: they correct the predictions of {', '.join(kinds)}"] if kinds else []
        return [line, *device.notes, *learnt, *self.tariffs.describe(device)]

    def left_out(self) -> list[str]:
        """What no figure covers."""
        unknown = [stage.estimate.co2.source for stage in self.ahead if not stage.estimate.co2.known]
        return [*LEFT_OUT, *(f"CO2: {why}" for why in dict.fromkeys(unknown))]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": "arriero.plan/1",
            "recipe": self.recipe.name,
            "file": str(self.recipe.path),
            "made_at": self.made_at,
            "stages": [stage.to_json() for stage in self.stages],
            "total": self.total.model_dump(mode="json"),
            "rests_on": self.rests_on(),
            "programme": self.programme,
            "left_out": self.left_out(),
            "device": self.device.model_dump(mode="json"),
        }


class _Walk:
    """Specs and artifacts of the stages walked so far."""

    def __init__(self, folder: RunFolder | None) -> None:
        self.folder = folder
        self.specs: dict[str, Spec] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.ran: list[str] = []
        """Kinds of the stages that run before, those left out that are there already."""

    def spec(self, ref: InputRef, step: Step, role: str) -> Spec:
        if ref.stage is not None:
            return self.specs[ref.stage]
        assert ref.path is not None
        artifact = open_outside(ref.path, step.stage.inputs[role].type)
        self.artifacts[str(ref)] = artifact
        return spec_of(artifact)

    def names(self, step: Step) -> dict[str, list[str]]:
        """Names of the inputs: of their stages, or of artifacts from outside."""
        return {
            role: [ref.stage if ref.stage is not None else self.artifacts[str(ref)].name for ref in refs]
            for role, refs in step.inputs.items()
        }

    def existing(self, step: Step) -> Artifact | None:
        """The artifact that this step would make again, when all its inputs are there to say so."""
        refs = [str(ref) for items in step.inputs.values() for ref in items]
        if self.folder is None or any(ref not in self.artifacts for ref in refs):
            return None
        inputs = {
            role: [self.artifacts[str(ref)].manifest.content for ref in items]
            for role, items in step.inputs.items()
        }
        return self.folder.find(stage_key(step.stage, step.settings, inputs))


def spec_of(artifact: Artifact) -> Spec:
    """The true spec of an artifact."""
    return SpecOf[artifact.manifest.makes].model_validate(artifact.manifest.spec)


def by_role(step: Step, found: Mapping[str, list[Any]], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Lists for the inputs that take many, dicts for those that are named, single values for the others.

    Args:
        names: of the stages or artifacts that the items come from, by role.

    Raises:
        ArrieroError: two items of a named input have the same name.
    """
    values: dict[str, Any] = {}
    for role, items in found.items():
        takes = step.stage.inputs[role]
        values[role] = items if takes.many else items[0]
        if takes.named:
            values[role] = dict(zip(names[role], items, strict=True))
            if len(values[role]) < len(items):
                twice = next(name for name in names[role] if list(names[role]).count(name) > 1)
                raise ArrieroError(
                    f"input '{role}' has two artifacts named '{twice}'; give each its own name"
                )
    return values


def artifact_names(found: Mapping[str, list[Artifact]]) -> dict[str, list[str]]:
    """The names of the stages that made them, by role."""
    return {role: [artifact.name for artifact in items] for role, items in found.items()}


def plan_recipe(
    recipe: Recipe, steps: list[Step], device: DeviceProfile, tariffs: Tariffs, folder: RunFolder | None = None,
    own: Corrections | None = None,
) -> RecipePlan:  # fmt: skip
    """Walk ``steps`` with specs. Finished artifacts found in ``folder`` are taken for what they are.

    Args:
        own: what this machine's earlier runs say of the predictions.

    Raises:
        ArrieroError: a raw file or an outside artifact is missing or of the wrong type.
    """
    walk = _Walk(folder)
    planned = []
    for step in steps:
        try:
            planned.append(_plan_step(step, walk, device, tariffs, own or Corrections()))
        except ArrieroError as error:
            raise type(error)(f"stage '{step.name}': {error}") from None
    return RecipePlan(recipe, planned, device, tariffs, datetime.now(UTC).isoformat(timespec="seconds"))


def _plan_step(
    step: Step, walk: _Walk, device: DeviceProfile, tariffs: Tariffs, own: Corrections
) -> PlannedStage:
    source_records(
        step.settings
    )  # a missing raw file is found out now, not after an hour of the stages before
    specs = {role: [walk.spec(ref, step, role) for ref in refs] for role, refs in step.inputs.items()}
    existing = walk.existing(step)
    if existing is not None:
        walk.artifacts[step.name] = existing
        walk.specs[step.name] = spec_of(existing)
        return PlannedStage(step, walk.specs[step.name], Estimate(), reuse=existing)
    plan = step.stage.plan(step.settings, by_role(step, specs, walk.names(step)), device)
    walk.specs[step.name] = plan.spec
    kind = step.stage.kind
    fresh = with_kept(plan.estimate, kind, walk.ran, device)
    walk.ran.append(kind)
    estimate = price(fresh, device, tariffs, kind, own)
    return PlannedStage(step, plan.spec, estimate, plan.notes, corrected=own.factors(kind))
