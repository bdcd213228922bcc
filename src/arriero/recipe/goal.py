"""What a recipe says of the model it pretrains, for `arriero plan RECIPE --goal`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arriero.errors import ArrieroError
from arriero.models.checkpoint import parse_config
from arriero.planning.goal.ask import Known
from arriero.recipe.plan import PlannedStage
from arriero.recipe.walks import Say, make_plan
from arriero.stage import ModelSpec, TokensSpec
from arriero.training.duration import MULTIPLE, Duration
from arriero.training.pretrain import TRAIN, PretrainSettings

_OWN_MACHINE = ("price_per_hour", "currency", "watts")
"""Of a recipe's ``cost:`` section, what is said of the machine at hand and of no other."""


def known_of(recipe: Path, sets: tuple[str, ...], until: str | None, say: Say) -> Known:
    """Model, tokens, context and batch of the stage that pretrains (the last one up to ``until``).

    Raises:
        ArrieroError: the recipe is wrong, or pretrains nothing.
    """
    planned, _ = make_plan(recipe, sets=sets, until=until, say=say)
    stages = [stage for stage in planned.stages if stage.step.stage.kind == "pretrain"]
    if not stages:
        raise ArrieroError(
            f"{recipe}: no stage pretrains a model, so --goal has nothing to plan; give --model and --tokens"
        )
    stage = stages[-1]
    spec = stage.spec
    assert isinstance(spec, ModelSpec) and isinstance(stage.step.settings, PretrainSettings)
    settings: PretrainSettings = stage.step.settings
    config = parse_config(spec.config, str(recipe))
    length = settings.window_length(config)
    costs = {key: value for key, value in planned.recipe.header.cost.items() if key not in _OWN_MACHINE}
    return Known(
        f"{planned.recipe.name}:{stage.step.name}", config, _tokens(settings, spec, planned.stages, stage, length),
        length, float(settings.batch_size * length), settings.optimizer, costs,
    )  # fmt: skip


def _tokens(
    settings: PretrainSettings, spec: ModelSpec, stages: list[PlannedStage], stage: PlannedStage, length: int
) -> float | None:
    """Tokens that the duration comes to; None where it is told in seconds, which only the device knows."""
    duration = Duration.parse(settings.duration)
    if duration.unit == MULTIPLE:
        return duration.amount * spec.n_parameters
    if duration.unit == "tokens":
        return duration.amount
    if duration.unit == "steps":
        return duration.amount * settings.batch_size * length
    if duration.timed:
        return None
    made: dict[str, Any] = {one.step.name: one.spec for one in stages}
    sources = [made.get(ref.stage) for refs in stage.step.inputs.values() for ref in refs if ref.stage]
    tokens = next((found for found in sources if isinstance(found, TokensSpec)), None)
    return None if tokens is None else duration.amount * tokens.splits[TRAIN].tokens * tokens.pass_epochs
