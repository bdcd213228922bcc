"""The recipe: a YAML file of named stages, read strictly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from arriero.cost.tariffs import Tariffs
from arriero.errors import ArrieroError, did_you_mean
from arriero.recipe.seeds import SEEDS, made_names
from arriero.recipe.source import Source, read_yaml
from arriero.recipe.validation import Loc, validate
from arriero.stage import Stage, StageSettings, get_stage, stage_modules

_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,40}$"


class Header(BaseModel):
    """What stands in a recipe beside its stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME, description="letters, digits, - and _; the run folder is runs/<name>")
    description: str = Field(
        default="", description="what the recipe makes, for whoever reads the plan or report"
    )
    seed: int = Field(default=1, ge=0, lt=2**31, description="random seed of every stage that names none")
    cost: dict[str, Any] = Field(default={}, description="overrides of the price, power and grid tables")
    stages: dict[str, Any] = Field(min_length=1, description="the stages, by name")


@dataclass(frozen=True)
class InputRef:
    """Where a stage takes an input from: another stage of the recipe, or a folder outside it."""

    stage: str | None = None
    path: Path | None = None

    def __str__(self) -> str:
        return self.stage or str(self.path)


@dataclass(frozen=True)
class Step:
    """One stage of a recipe: its kind, its inputs and its checked settings."""

    name: str
    stage: Stage[Any]
    settings: StageSettings
    inputs: dict[str, list[InputRef]] = field(default_factory=dict)

    @property
    def needs(self) -> list[str]:
        """Names of the stages that must be there before this one."""
        return list(dict.fromkeys(ref.stage for refs in self.inputs.values() for ref in refs if ref.stage))


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; ``steps`` are in an order in which they can run."""

    path: Path
    header: Header
    steps: list[Step]
    groups: dict[str, list[str]] = field(default_factory=dict)
    """names of the steps that each name written in the recipe stands for"""

    @property
    def name(self) -> str:
        return self.header.name

    def step(self, name: str) -> Step:
        """The step of that name.

        Raises:
            ArrieroError: there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise ArrieroError(
            f"{self.path}: there is no stage '{name}'{did_you_mean(name, [s.name for s in self.steps])}"
        )

    def until(self, name: str) -> list[Step]:
        """The steps that ``name`` needs, and itself, in running order."""
        wanted = {self.step(made).name for made in self.groups.get(name, [name])}
        for step in reversed(self.steps):
            if step.name in wanted:
                wanted.update(step.needs)
        return [step for step in self.steps if step.name in wanted]


def parse_set(assignment: str) -> tuple[str, list[str], Any]:
    """``stage.key=value`` (the value as YAML) -> (stage, keys, value)."""
    target, equals, text = assignment.partition("=")
    stage, *keys = target.strip().split(".")
    if not equals or not stage or not keys or not all(keys):
        raise ArrieroError(f"--set {assignment}: should look like stage.key=value")
    try:
        return stage, keys, yaml.safe_load(text)
    except yaml.YAMLError:
        raise ArrieroError(f"--set {assignment}: the value is not valid YAML") from None


def _apply_set(recipe: dict[str, Any], assignment: str) -> None:
    stage, keys, value = parse_set(assignment)
    stages = recipe["stages"]
    if stage == "cost" and stage not in stages:
        recipe.setdefault("cost", {})
        stages = recipe
    if stage not in stages:
        raise ArrieroError(f"--set {assignment}: there is no stage '{stage}'{did_you_mean(stage, stages)}")
    if stages[stage] is None:
        stages[stage] = {}
    place = stages[stage]
    for key in keys[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        raise ArrieroError(f"--set {assignment}: '{'.'.join(keys[:-1])}' is not a mapping")
    place[keys[-1]] = value


def _input_refs(
    source: Source, name: str, role: str, value: Any, groups: dict[str, list[str]], many: bool
) -> list[InputRef]:
    loc: Loc = ("stages", name, "inputs", role)
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not many:
        raise source.error(loc, f"stage '{name}': input '{role}' takes one artifact, not a list")
    refs = []
    for item in values:
        if not isinstance(item, str) or not item:
            raise source.error(
                loc, f"stage '{name}': input '{role}' should name a stage or a folder, not {item!r}"
            )
        if item in groups:
            made = groups[item]
            if len(made) > 1 and not many:
                listed = ", ".join(made)
                raise source.error(
                    loc, f"stage '{name}': input '{role}' takes one artifact, but '{item}' is {listed}"
                )
            refs += [InputRef(stage=one) for one in made]
        elif "/" in item:
            refs.append(InputRef(path=(source.path.parent / Path(item).expanduser())))
        else:
            hint = did_you_mean(item, [known for known in groups if known != name])
            raise source.error(
                loc, f"stage '{name}': input '{role}' comes from '{item}', which is no stage{hint}"
            )
    return refs


def _read_inputs(
    source: Source, name: str, stage: Stage[Any], raw: Any, groups: dict[str, list[str]]
) -> dict[str, list[InputRef]]:
    loc: Loc = ("stages", name, "inputs")
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise source.error(
            loc, f"stage '{name}': 'inputs' should map a role to a stage, e.g. {{tokens: tokens}}"
        )
    for role in raw:
        if role not in stage.inputs:
            takes = did_you_mean(str(role), stage.inputs) if stage.inputs else "; it takes none"
            raise source.error((*loc, role), f"stage '{name}' ({stage.kind}) has no input '{role}'{takes}")
    found = {}
    for role, spec in stage.inputs.items():
        if role in raw:
            found[role] = _input_refs(source, name, role, raw[role], groups, spec.many)
        elif not spec.optional:
            raise source.error(
                ("stages", name), f"stage '{name}' ({stage.kind}) lacks its input '{role}': {spec.help}"
            )
    return found


def _read_steps(
    source: Source, name: str, body: Any, header: Header, groups: dict[str, list[str]]
) -> list[Step]:
    """The step written under ``name``, or with ``seeds`` one step for each of them."""
    loc: Loc = ("stages", name)
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise source.error(loc, f"stage '{name}' should be a mapping of settings, not {body!r}")
    kind = body.get("kind", name)
    if kind not in stage_modules():
        where = (*loc, "kind") if "kind" in body else loc
        say = f"unknown kind of stage '{kind}'" if "kind" in body else f"stage '{name}' has no 'kind'"
        raise source.error(where, say + did_you_mean(str(kind), stage_modules()))
    stage = get_stage(kind)
    raw = {key: value for key, value in body.items() if key not in ("kind", "inputs", SEEDS)}

    def fail(inner: Loc, message: str) -> ArrieroError:
        return source.error((*loc, *inner), f"stage '{name}': {message}")

    settings = validate(stage.Settings, raw, base=source.path.parent, fail=fail)
    if settings.seed is None:
        settings = settings.model_copy(update={"seed": header.seed})
    inputs = _read_inputs(source, name, stage, body.get("inputs"), groups)
    if SEEDS not in body:
        return [Step(name, stage, settings, inputs)]
    return [
        Step(made, stage, settings.model_copy(update={"seed": seed}), inputs)
        for made, seed in zip(groups[name], body[SEEDS], strict=True)
    ]


def _sorted(source: Source, steps: list[Step]) -> list[Step]:
    """Steps in an order in which inputs come first; otherwise as written."""
    done: dict[str, Step] = {}
    waiting = list(steps)
    while waiting:
        ready = [step for step in waiting if all(need in done for need in step.needs)]
        if not ready:
            names = " -> ".join(_cycle(waiting))
            raise source.error(
                ("stages", waiting[0].name), f"the stages need one another in a circle: {names}"
            )
        done[ready[0].name] = ready[0]
        waiting.remove(ready[0])
    return list(done.values())


def _cycle(steps: list[Step]) -> list[str]:
    by_name = {step.name: step for step in steps}
    path = [steps[0].name]
    while True:
        following = next(need for need in by_name[path[-1]].needs if need in by_name)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _check_types(source: Source, steps: list[Step], groups: dict[str, list[str]]) -> None:
    written = {made: name for name in groups for made in groups[name] if name != made}
    makes = {step.name: step.stage.makes for step in steps}
    for step in steps:
        for role, refs in step.inputs.items():
            want = step.stage.inputs[role].type
            for ref in refs:
                if ref.stage and makes[ref.stage] != want:
                    message = f"stage '{step.name}': input '{role}' must be {want}, but '{ref.stage}' makes {makes[ref.stage]}"
                    place = ("stages", written.get(step.name, step.name), "inputs", role)
                    raise source.error(place, message)


def _check_cost(source: Source, cost: dict[str, Any]) -> None:
    """Refuse overrides of the price, power and grid tables that these do not know."""
    try:
        Tariffs.load(cost)
    except ArrieroError as error:
        named = next((key for key in cost if f"'{key}'" in str(error)), None)
        raise source.error(("cost", named) if named else ("cost",), str(error)) from None


def read_recipe(path: Path, assignments: tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe; ``assignments`` are ``stage.key=value`` overrides.

    Raises:
        ArrieroError: with file and line, and for a misspelt word the nearest right one.
    """
    source = read_yaml(path)
    if not isinstance(source.value, dict):
        raise ArrieroError(f"{path}:1: a recipe is a mapping with 'name' and 'stages'")
    stages = source.value.get("stages")
    if isinstance(stages, dict):
        for assignment in assignments:
            _apply_set(source.value, assignment)
    header = validate(Header, source.value, base=path.parent, fail=source.error)
    _check_cost(source, header.cost)
    for name in header.stages:
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            raise source.error(("stages", name), f"a stage's name is letters, digits, - and _, not {name!r}")
    groups = made_names(source, header.stages)
    steps = [
        step
        for name, body in header.stages.items()
        for step in _read_steps(source, name, body, header, groups)
    ]
    _check_types(source, steps, groups)
    return Recipe(path, header, _sorted(source, steps), groups)
