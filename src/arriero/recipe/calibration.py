"""Calibrating this machine with the probes of every stage, and finding the profile a plan uses."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from arriero.cost.device import SKIPPED, DeviceProfile, Rate, load_profile, profile_path, save_profile
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
        The ratios of real steps to their priced traces and the starts, by key, and where the profile was written.

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
    measured: dict[str, Rate] = {}
    for number, trial in enumerate(trials, start=1):
        say(f"measuring real steps of model {number} of {len(trials)}")
        measured.update(measure(trial, profile, budget_s=budget_s / len(trials)))
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
    """This machine's profile; a short one is measured when there is none or it describes another machine, and what it lacks
    (a slow machine has no time for all in a short one) is measured too.

    Raises:
        ArrieroError: a stored profile cannot be read.
    """
    profile = load_profile()
    reason = "this machine was never calibrated" if profile is None else profile.stale()
    if profile is None or reason is not None:
        reason = reason if profile is None else f"the stored profile {reason}"
        say(
            f"{reason}: measuring it now, for about half a minute (`arriero calibrate` measures longer and better)"
        )
        profile = _calibrate_aside("--short", say)
    missing = missing_rates(profile)
    if missing:
        say(f"the profile lacks the rates of {', '.join(missing)}: measuring these now")
        profile = _calibrate_aside("--missing", say)
    return profile


def missing_rates(profile: DeviceProfile) -> list[str]:
    """Stages of which the profile holds no rate, though they have one."""
    return [kind for kind in stage_modules() if not _measured(profile, kind)]


def calibrate_missing(*, say: Callable[[str], None]) -> tuple[DeviceProfile, Path]:
    """Measure the rates that the stored profile lacks, however long that takes, and store it with them.

    Raises:
        ArrieroError: there is no profile, or it cannot be read.
    """
    profile = load_profile()
    if profile is None:
        raise ArrieroError("this machine was never calibrated; run `arriero calibrate`")
    probes, rates = stage_probes(), dict(profile.rates)
    for kind in missing_rates(profile):
        say(f"measuring the stage '{kind}'")
        rates.update(probes[kind]())
    notes = [note for note in profile.notes if not note.startswith(SKIPPED)]
    profile = profile.model_copy(update={"rates": rates, "notes": notes})
    return profile, save_profile(profile)


def _calibrate_aside(how: str, say: Callable[[str], None]) -> DeviceProfile:
    """Calibrate in a process of its own: what it leaves in memory would count as the first stages' own."""
    command = [sys.executable, "-m", "arriero", "calibrate", how]
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
