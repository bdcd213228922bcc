"""Running one stage for real: workplace, meter, manifest, commit. Both walks and the single commands use it."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os.path import relpath
from pathlib import Path

from arriero.artifacts import Artifact, Manifest
from arriero.artifacts.artifact import list_files, merge_licenses
from arriero.artifacts.commit import commit_folder, write_json_atomic
from arriero.artifacts.host import host_facts, version_facts
from arriero.artifacts.manifest import LOGS, MANIFEST, InputRecord
from arriero.cost.allocator import keep_freed_memory, start_afresh
from arriero.cost.meter import Measurement, Meter
from arriero.cost.tariffs import Tariffs
from arriero.errors import ArrieroError
from arriero.recipe.context import METRICS, RunContext, read_metrics
from arriero.recipe.followers import call_followers
from arriero.recipe.keys import source_records
from arriero.recipe.plan import artifact_names, by_role
from arriero.recipe.progress import Display
from arriero.recipe.runfolder import Workplace
from arriero.recipe.schema import Step
from arriero.recipe.stop import StopFlag
from arriero.recipe.tensorboard import EventFile
from arriero.stage import Outcome

METER = "meter.jsonl"


@dataclass(frozen=True)
class Job:
    """A stage about to be run: where its inputs lie, its key, and where its artifact goes."""

    step: Step
    inputs: Mapping[str, list[Artifact]]
    key: str
    final: Path
    events: Path | None = None
    """Folder below which the metrics are written for TensorBoard too."""


def input_contents(inputs: Mapping[str, list[Artifact]]) -> dict[str, list[str]]:
    """Content hashes by role, for the stage's key."""
    return {role: [artifact.manifest.content for artifact in items] for role, items in inputs.items()}


def execute(job: Job, display: Display, stop: StopFlag, tariffs: Tariffs) -> tuple[Artifact, Measurement]:
    """Run the stage, meter it, commit its artifact.

    Raises:
        Interrupted: the stage was asked to stop; its state is kept.
        ArrieroError: what the stage complains of.
    """
    keep_freed_memory()  # as while calibrating, so that the plan's rates hold
    start_afresh()  # the peak is to be this stage's own
    place = Workplace(job.final)
    place.open()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    seed = job.step.settings.seed or 0
    events = EventFile(job.events / job.step.name) if job.events else None
    try:
        with Meter(place.state / METER, tariffs) as meter:
            context = RunContext(place, seed, display, stop, meter, events)
            try:
                call_followers(job)
                outcome = job.step.stage.run(
                    job.step.settings, by_role(job.step, job.inputs, artifact_names(job.inputs)), context
                )
            finally:
                context.close()
            _keep_metrics(place)
        _keep_samples(place)
        measured = meter.result()
        manifest = _manifest(job, outcome, measured, place.partial, started)
        write_json_atomic(place.partial / MANIFEST, manifest.model_dump(mode="json"))
        commit_folder(place.partial, job.final)
    except BaseException:
        place.drop_partial()
        raise
    place.drop_state()
    return Artifact.open(job.final), measured


def _keep_metrics(place: Workplace) -> None:
    lines = read_metrics(place.state / METRICS)
    if lines:
        logs = place.partial / LOGS
        logs.mkdir(exist_ok=True)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (logs / METRICS).write_text(text, encoding="utf-8")


def _keep_samples(place: Workplace) -> None:
    """The meter's samples stay with the artifact, for whoever wants to see where a figure comes from."""
    source = place.state / METER
    if source.exists():
        logs = place.partial / LOGS
        logs.mkdir(exist_ok=True)
        with source.open("rb") as file, gzip.open(logs / f"{METER}.gz", "wb") as kept:
            shutil.copyfileobj(file, kept)


def _manifest(job: Job, outcome: Outcome, measured: Measurement, folder: Path, started: str) -> Manifest:
    stage = job.step.stage
    if outcome.spec.type != stage.makes:
        raise ArrieroError(f"stage '{job.step.name}' made {outcome.spec.type}, not {stage.makes}")
    inputs = [
        InputRecord(
            role=role, name=artifact.name, kind=artifact.manifest.kind, key=artifact.manifest.key,
            content=artifact.manifest.content, path=relpath(artifact.path, job.final.resolve()),
        )
        for role, artifacts in job.inputs.items() for artifact in artifacts
    ]  # fmt: skip
    inherited = [artifact.manifest.licenses for artifacts in job.inputs.values() for artifact in artifacts]
    return Manifest(
        name=job.step.name, kind=stage.kind, makes=stage.makes, key=job.key, stage_version=stage.version,
        settings=job.step.settings.model_dump(mode="json"), seed=job.step.settings.seed or 0,
        inputs=inputs, sources=source_records(job.step.settings), files=list_files(folder),
        spec=outcome.spec.model_dump(mode="json"), facts=outcome.facts,
        licenses=merge_licenses(outcome.licenses, *inherited),
        versions=version_facts(), host=host_facts(), started=started,
        ended=datetime.now(UTC).isoformat(timespec="seconds"), measured=measured.model_dump(mode="json"),
    )  # fmt: skip


def clear_state(final: Path) -> None:
    """Remove what an abandoned attempt at ``final`` left."""
    place = Workplace(final)
    shutil.rmtree(place.partial, ignore_errors=True)
    shutil.rmtree(place.state, ignore_errors=True)
