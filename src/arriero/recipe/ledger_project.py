"""The runs of a project, from the ledgers of its run folders: each second of each run once."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from arriero.artifacts import Manifest
from arriero.artifacts.manifest import MANIFEST
from arriero.cost import Estimate
from arriero.cost.ledger import Ledger
from arriero.cost.meter import Measurement
from arriero.cost.meter_file import read_totals
from arriero.cost.meter_result import measurement
from arriero.cost.tariffs import Machine, Tariffs
from arriero.errors import ArrieroError
from arriero.recipe.execute import METER
from arriero.recipe.runfolder import STATE, RunFolder

_LEDGER = "ledger.jsonl"
_DEEPEST = 4


@dataclass(frozen=True)
class Made:
    """What one stage took: a ledger record, or seconds that no record holds."""

    at: str
    stage: str
    kind: str
    measured: Measurement
    record: str
    """The ledger record's hash; for other seconds, where they lie."""
    finished: bool = True


@dataclass(frozen=True)
class Run:
    """One `arriero run`: what it set out to make and what became of it.

    A stage that was killed and resumed counts in the run that finished it, with the seconds of all of them.
    """

    at: str
    recipe: str
    folder: Path
    planned: list[str]
    reused: list[str]
    made: list[Made]
    predicted: list[Estimate]
    working: bool = False

    @property
    def outcome(self) -> str:
        """ "finished", or where it stands."""
        done = {one.stage for one in self.made} | set(self.reused)
        missing = [name for name in self.planned if name not in done]
        if not missing:
            return "finished"
        return f"at work on {missing[0]}" if self.working else f"stopped at {missing[0]}"


@dataclass
class Project:
    """Runs in the order they began, seconds that no run's record holds, and what could not be read."""

    runs: list[Run] = field(default_factory=list)
    loose: list[Made] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def made(self) -> list[Made]:
        """Every stage that took anything, each once: copies of a folder hold the same records."""
        every = [*(one for run in self.runs for one in run.made), *self.loose]
        return list({one.record: one for one in every}.values())


def run_folders(paths: Sequence[Path]) -> list[RunFolder]:
    """The run folders that ``paths`` are or hold, each once.

    Raises:
        ArrieroError: there is none.
    """
    found: dict[Path, RunFolder] = {}
    for path in paths:
        below = list(_ledgers(path, 0))
        if not below:
            raise ArrieroError(
                f"{path}: no run has left a {_LEDGER} there; give run folders or a folder of them"
            )
        found.update({ledger.parent.resolve(): RunFolder(ledger.parent) for ledger in below})
    return list(found.values())


def _ledgers(path: Path, depth: int) -> Iterator[Path]:
    if (path / _LEDGER).is_file():
        yield path / _LEDGER
        return
    if depth < _DEEPEST and path.is_dir():
        for inner in sorted(path.iterdir()):
            if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
                yield from _ledgers(inner, depth + 1)


def read_project(folders: Iterable[RunFolder], *, strict: bool = True) -> Project:
    """Everything that the ledgers of these folders say.

    Args:
        strict: False tells of a damaged ledger in the notes and goes on without it.

    Raises:
        DamagedArtifactError: a ledger or a stored plan was changed.
    """
    project = Project()
    for folder in folders:
        try:
            _read(folder, project)
        except ArrieroError as error:
            if strict:
                raise
            project.notes.append(str(error))
    project.runs.sort(key=lambda run: run.at)
    return project


def _read(folder: RunFolder, project: Project) -> None:
    ledger = Ledger(folder.ledger)
    runs: list[Run] = []
    records = ledger.read()
    for record, chain in zip(records, ledger.chains, strict=True):
        if record["type"] == "plan":
            runs.append(
                Run(record.get("at", ""), _recipe(folder, record), folder.path, list(record.get("stages", {})), [], [], [])
            )  # fmt: skip
        elif record["type"] == "stage" and runs:
            _add(runs[-1], record, chain, project)
    if runs and _locked(folder):
        runs[-1] = Run(**{**runs[-1].__dict__, "working": True})
    project.runs += runs
    project.notes += ledger.notes
    project.loose += _unrecorded(
        folder, {record.get("key", "") for record in records if "measured" in record}
    )
    project.loose += _unfinished(folder, project)


def _add(run: Run, record: dict[str, Any], chain: str, project: Project) -> None:
    name = record.get("name", "")
    if "measured" not in record:
        run.reused.append(name)
        return
    try:
        measured = Measurement.model_validate(record["measured"])
        run.predicted.append(Estimate.model_validate(record["predicted"]))
    except (ValidationError, KeyError):
        project.notes.append(
            f"{run.folder}: the figures of stage '{name}' are of another version and left out"
        )
        return
    run.made.append(Made(record.get("at", ""), name, record.get("kind", ""), measured, chain))


def _unrecorded(folder: RunFolder, recorded: set[str]) -> Iterator[Made]:
    """Finished artifacts whose run was killed before it wrote its record: the manifest has the figures."""
    for file in sorted(folder.artifacts.glob(f"*/{MANIFEST}")):
        try:
            manifest = Manifest.model_validate_json(file.read_bytes())
            if manifest.key in recorded or not manifest.measured or file.parent.name.startswith("."):
                continue
            measured = Measurement.model_validate(manifest.measured)
        except (OSError, ValidationError):
            continue
        yield Made(manifest.ended, manifest.name, manifest.kind, measured, f"{file.parent.resolve()}")


def _unfinished(folder: RunFolder, project: Project) -> Iterator[Made]:
    """What stages took that were killed or stopped and have not been gone on with."""
    for file in sorted(folder.artifacts.glob(f".*{STATE}/{METER}")):
        name = file.parent.name[1 : -len(STATE)]
        if (folder.artifacts / name / MANIFEST).exists():
            continue  # it is in the artifact's manifest
        try:
            segments = read_totals(file)
            if segments:
                found = measurement(segments, Machine.here(), Tariffs.load(_cost(folder)))
                yield Made("", name.rpartition("-")[0], "", found, str(file.resolve()), finished=False)
        except (OSError, ValueError, ArrieroError):
            project.notes.append(f"{file}: what this stage took so far could not be read")


def _cost(folder: RunFolder) -> dict[str, Any]:
    """The overrides of the recipe that was run last in the folder."""
    try:
        cost = yaml.safe_load((folder.path / "recipe.yaml").read_text(encoding="utf-8")).get("cost") or {}
    except (OSError, yaml.YAMLError, AttributeError):
        return {}
    return cost if isinstance(cost, dict) else {}


def _recipe(folder: RunFolder, record: dict[str, Any]) -> str:
    if "recipe" in record:
        return str(record["recipe"])
    try:
        return str(json.loads((folder.path / str(record.get("file"))).read_bytes())["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.path.name


def _locked(folder: RunFolder) -> bool:
    """True while a run is at work in the folder."""
    try:
        handle = os.open(folder.path / ".lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
