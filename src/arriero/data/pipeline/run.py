"""The whole way: parts, duplicates, decontamination, shards, audit. Every step goes on where a kill left it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arriero.data.audit.ledger import DECISIONS_FOLDER, LINE_EDITS_FOLDER, PARTS, write_table
from arriero.data.audit.schema import DECISIONS, LINE_EDITS
from arriero.data.decontaminate.run import run_decontamination
from arriero.data.decontaminate.settings import Decontamination
from arriero.data.dedup.run import run_dedup
from arriero.data.dedup.settings import Dedup
from arriero.data.execute.progress import Progress
from arriero.data.execute.tasks import Executor
from arriero.data.pipeline.part import Part
from arriero.data.pipeline.plan import Planner, check_read, is_made, tasks_of
from arriero.data.pipeline.settings import PartSettings
from arriero.data.pipeline.worker import make_part
from arriero.data.pipeline.write import ShardJob, group_parts, write_shards
from arriero.data.source import Source
from arriero.errors import ArrieroError


@dataclass(frozen=True)
class Curation:
    """What to curate and how."""

    sources: Sequence[Source]
    settings: PartSettings
    dedup: Dedup
    decontaminate: Decontamination | None
    validation_share: float
    seed: int
    split_bytes: int
    shard_bytes: int


@dataclass(frozen=True)
class Hooks:
    """How the run tells of itself and is asked to stop."""

    tick: Callable[[str, Progress], None]
    stop: Callable[[], bool]

    def of(self, step: str) -> dict[str, Any]:
        """As an executor takes them."""
        return {"tick": lambda progress: self.tick(step, progress), "stop": self.stop}


def make_parts(curation: Curation, executor: Executor, work: Path, hooks: Hooks) -> list[Part]:
    """Read all sources.

    Raises:
        ArrieroError: a file is not there, or a source gave no text at all.
        Interrupted: stopped; whole parts are kept.
    """
    folder = work / PARTS
    folder.mkdir(parents=True, exist_ok=True)
    settings = _prepared(curation.settings, work).model_dump_json()
    planner = Planner(curation.sources, settings, folder, curation.split_bytes)
    tasks = tasks_of(planner.jobs())
    executor.run(make_part, tasks, done=is_made, **hooks.of("read"))
    made = [Part(folder / task.name) for task in tasks]
    for source in curation.sources:
        check_read(source, [part for part in made if part.about["source"] == source.name])
    return sorted(made, key=lambda part: part.name)


def decide(
    curation: Curation, parts: Sequence[Part], executor: Executor, work: Path, hooks: Hooks
) -> dict[str, Any]:
    """Run the global steps and bring their decisions together; returns their reports by step."""
    folders = [part.folder for part in parts]
    steps = [work / "dedup"]
    found = run_dedup(
        folders, curation.dedup, executor, steps[0], facts=curation.settings.facts, **hooks.of("duplicates")
    )  # fmt: skip
    reports: dict[str, Any] = {"dedup": found.record()}
    if curation.decontaminate is not None:
        steps.append(work / "decontaminate")
        contaminated = run_decontamination(
            folders, curation.decontaminate, executor, steps[1], dedup=steps[0], **hooks.of("contamination")
        )
        reports["decontaminate"] = contaminated.record
    for part in parts:
        _join(part.name, steps, work)
    return reports


def write(
    curation: Curation, parts: Sequence[Part], executor: Executor, work: Path, hooks: Hooks
) -> list[dict[str, Any]]:
    """Write the shards; returns their accounts."""
    folder = work / "shards"
    folder.mkdir(exist_ok=True)
    jobs = [
        ShardJob(
            number, tuple(str(part.folder) for part in group), (str(work / DECISIONS_FOLDER),),
            (str(work / LINE_EDITS_FOLDER),), curation.validation_share, curation.seed, str(folder),
        )
        for number, group in enumerate(group_parts(parts, curation.shard_bytes))
    ]  # fmt: skip
    accounts = write_shards(jobs, executor, **hooks.of("write"))
    documents = sum(split["documents"] for account in accounts for split in account["splits"].values())
    if documents == 1 and curation.validation_share:
        raise ArrieroError(
            "one document is left after curation, and it cannot be on both sides of the split:"
            " cut the text into more documents (sources: split), or set validation_share to 0"
        )
    return accounts


def deliver(work: Path, folder: Path) -> None:
    """Put shards, parts and decisions into the artifact's folder: as hard links where the file system has them, so
    that the work stays whole until the artifact is committed."""
    for path in sorted((work / "shards").glob("*.jsonl.zst")):
        _link(path, folder / path.name)
    for name in (PARTS, DECISIONS_FOLDER, LINE_EDITS_FOLDER):
        for path in sorted((work / name).rglob("*")) if (work / name).is_dir() else []:
            if path.is_file() and ".partial" not in path.as_posix():
                target = folder / path.relative_to(work)
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(path, target)


def _prepared(settings: PartSettings, work: Path) -> PartSettings:
    """With long lists as files that all workers map."""
    from arriero.data.filters import prepare_lists

    return settings.model_copy(update={"filters": prepare_lists(settings.filters, work / "lists")})


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _join(part: str, steps: Sequence[Path], work: Path) -> None:
    """One file of decisions and one of cuts for a part; a document that an earlier step dropped stays with it."""
    from arriero.data.audit.ledger import read_rows

    dropped: dict[int, dict[str, Any]] = {}
    cuts: list[dict[str, Any]] = []
    for step in steps:
        decisions, edits = (step / name / f"{part}.parquet" for name in (DECISIONS_FOLDER, LINE_EDITS_FOLDER))
        for row in read_rows(decisions) if decisions.exists() else ():
            dropped.setdefault(row["row"], row)
        cuts += read_rows(edits) if edits.exists() else ()
    write_table(
        work / DECISIONS_FOLDER / f"{part}.parquet", DECISIONS, [dropped[row] for row in sorted(dropped)]
    )
    kept = sorted(
        (cut for cut in cuts if cut["row"] not in dropped), key=lambda cut: (cut["row"], cut["start"])
    )
    write_table(work / LINE_EDITS_FOLDER / f"{part}.parquet", LINE_EDITS, kept)
