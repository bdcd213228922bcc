"""Calibrating this machine with the probes of every stage, and finding the profile a plan uses."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from arriero.cost.device import DeviceProfile, Rate, load_profile, profile_path, save_profile
from arriero.errors import ArrieroError
from arriero.stage import Stage, get_stage, stage_modules


def stage_probes() -> dict[str, Callable[[], dict[str, Rate]]]:
    """Every stage's probe, by kind."""
    return {kind: get_stage(kind).probe for kind in stage_modules()}


def calibrate_machine(
    *, short: bool, say: Callable[[str], None], budget_s: float | None = None
) -> tuple[DeviceProfile, Path]:  # fmt: skip
    """Measure this machine and store the profile."""
    from arriero.cost.calibrate import calibrate

    budget = budget_s if budget_s is not None else (15.0 if short else 45.0)
    profile = calibrate(budget_s=budget, short=short, probes=stage_probes(), progress=say)
    return profile, save_profile(profile)


def calibrate_recipe(
    recipe: Path, sets: Sequence[str], *, say: Callable[[str], None], budget_s: float = 30.0
) -> tuple[dict[str, Rate], Path]:
    """Measure a few real steps of every model that a recipe trains; plans of the same models use them.

    Returns:
        The ratios of real steps to their priced traces, by key, and where the profile was written.

    Raises:
        ArrieroError: the recipe has a fault, or trains nothing.
    """
    from arriero.recipe.walks import make_plan
    from arriero.training.trial import collecting, measure

    profile = usable_profile(say)
    # a folder where nothing is made yet: what is reused is not priced
    with collecting() as trials, tempfile.TemporaryDirectory() as folder:
        make_plan(recipe, out=Path(folder) / "new", sets=sets, say=say)
    if not trials:
        raise ArrieroError(f"{recipe} trains no network, so there are no steps to measure")
    measured = {}
    for number, trial in enumerate(trials, start=1):
        say(f"measuring real steps of model {number} of {len(trials)}")
        measured[trial.key] = measure(trial, profile, budget_s=budget_s / len(trials))
    return measured, save_profile(profile.model_copy(update={"rates": profile.rates | measured}))


def calibrate_serving(
    model: str, weights: str | None, *, say: Callable[[str], None], budget_s: float = 30.0
) -> tuple[dict[str, Rate], Path]:
    """Measure steps of answering over a model of that shape; `arriero estimate --serve` of the same uses them.

    Args:
        model: a preset's name, a model folder or file, or a ``config.json``. weights: how they are held; None: as the
            folder holds them, or as `estimate --serve` would take them.

    Raises:
        ArrieroError: no such model, or one that does not write a token at a time.
    """
    from arriero.models.decoder_config import DecoderConfig
    from arriero.planning.estimate.model_source import find_model
    from arriero.planning.serving.held import held_of
    from arriero.planning.serving.trial import Shape, measure

    source = find_model(model)
    if not isinstance(source.config, DecoderConfig):
        raise ArrieroError(
            f"{model} is of family '{source.config.family}' and does not write a token at a time"
        )
    profile = usable_profile(say)
    shape = Shape(source.config, held_of(model, weights, profile), profile.threads)
    say(f"measuring steps of answering, weights in {shape.held}: about {budget_s:.0f} seconds")
    measured = measure(shape, budget_s=budget_s)
    return measured, save_profile(profile.model_copy(update={"rates": profile.rates | measured}))


def usable_profile(say: Callable[[str], None]) -> DeviceProfile:
    """This machine's profile; a short one is measured when there is none or it describes another machine.

    Raises:
        ArrieroError: a stored profile cannot be read.
    """
    profile = load_profile()
    reason = "this machine was never calibrated" if profile is None else profile.stale()
    if profile is not None and reason is None:
        missing = [kind for kind in stage_modules() if not _measured(profile, kind)]
        if not missing:
            return profile
        reason = f"the profile lacks the rates of {', '.join(missing)}"
    elif profile is not None:
        reason = f"the stored profile {reason}"
    say(f"{reason}: measuring it now, about 15 seconds (`arriero calibrate` measures longer and better)")
    return _calibrate_aside(say)


def _calibrate_aside(say: Callable[[str], None]) -> DeviceProfile:
    """A short calibration in a process of its own: what it leaves in memory would count as the first stages' own."""
    command = [sys.executable, "-m", "arriero", "calibrate", "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    profile = load_profile()
    if done.returncode or profile is None:
        complaint = (done.stderr.strip().splitlines() or ["it left no profile"])[-1]
        raise ArrieroError(f"calibrating failed: {complaint.removeprefix('arriero: ')}")
    say(f"profile written to {profile_path()}")
    return profile


def _measured(profile: DeviceProfile, kind: str) -> bool:
    """True when the profile holds that stage's rates, or the stage measures none."""
    if type(get_stage(kind)).probe is Stage.probe:
        return True
    return any(name.startswith(f"{kind}.") for name in profile.rates)
