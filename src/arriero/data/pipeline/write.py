"""From parts and decisions to the corpus's files: one task a shard."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arriero.artifacts.commit import PARTIAL, fsync_path, write_json_atomic
from arriero.data.corpus import SPLITS
from arriero.data.execute.tasks import Counts, Executor, Task
from arriero.data.pipeline.part import Part
from arriero.data.pipeline.survivors import Survivors
from arriero.data.pipeline.texts import FramedWriter

TRAIN, VALIDATION = SPLITS


@dataclass(frozen=True)
class ShardJob:
    """The parts that make one shard, and what was decided about their documents."""

    number: int
    parts: tuple[str, ...]
    decisions: tuple[str, ...]
    line_edits: tuple[str, ...]
    validation_share: float
    seed: int
    folder: str


def shard_file(folder: Path, split: str, number: int) -> Path:
    """``train-00000.jsonl.zst``."""
    return folder / f"{split}-{number:05d}.jsonl.zst"


def group_parts(parts: Sequence[Part], shard_bytes: int) -> list[list[Part]]:
    """Consecutive parts, so many that their kept text reaches ``shard_bytes``; the last group may be smaller."""
    groups: list[list[Part]] = [[]]
    size = 0
    for part in parts:
        if size >= shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(part)
        size += int(part.about["kept_bytes"])
    return groups


def write_shard(task: Task) -> Counts:
    """Write the files of one shard and the account of what is in them, which appears last."""
    job: ShardJob = task.payload
    folder = Path(job.folder)
    splits = SPLITS if job.validation_share else (TRAIN,)
    finals = {split: shard_file(folder, split, job.number) for split in splits}
    partials = {split: path.with_name(path.name + PARTIAL) for split, path in finals.items()}
    account = _Account(splits)
    with ExitStack() as stack:
        files = {split: stack.enter_context(FramedWriter(path)) for split, path in partials.items()}
        for name in job.parts:
            survivors = Survivors(Part(Path(name)), [*map(Path, job.decisions)], [*map(Path, job.line_edits)])
            for place, document in survivors.documents(job.seed):
                split = VALIDATION if place < job.validation_share else TRAIN
                files[split].add(document.record())
                account.take(split, survivors.part.name, place, document)
    for split, path in partials.items():
        fsync_path(path)
        path.replace(finals[split])
    write_json_atomic(_account_file(job), {"share": job.validation_share, **account.facts()})
    return Counts(account.documents, account.documents)


class _Account:
    def __init__(self, splits: Sequence[str]) -> None:
        self._splits: dict[str, Any] = {
            split: {"documents": 0, "bytes": 0, "parts": {}, "sources": {}} for split in splits
        }
        self._licenses: dict[str, set[str]] = {}
        self._first, self._last = math.inf, -math.inf
        self.documents = 0

    def take(self, split: str, part: str, place: float, document: Any) -> None:
        size = len(document.text.encode())
        entry = self._splits[split]
        entry["documents"] += 1
        entry["bytes"] += size
        entry["parts"][part] = entry["parts"].get(part, 0) + 1
        source = entry["sources"].setdefault(document.source, {"documents": 0, "bytes": 0})
        source["documents"] += 1
        source["bytes"] += size
        self._licenses.setdefault(document.source, set()).add(document.license)
        self._first, self._last = min(self._first, place), max(self._last, place)
        self.documents += 1

    def facts(self) -> dict[str, Any]:
        return {
            "splits": self._splits,
            "licenses": {source: sorted(names) for source, names in sorted(self._licenses.items())},
            "first": None if self.documents == 0 else self._first,
            "last": None if self.documents == 0 else self._last,
        }


def _account_file(job: ShardJob) -> Path:
    return Path(job.folder) / f"shard-{job.number:05d}.json"


def _written(task: Task) -> bool:
    job: ShardJob = task.payload
    try:
        share: float = json.loads(_account_file(job).read_bytes())["share"]
    except (OSError, ValueError, KeyError):
        return False
    return share == job.validation_share


def write_shards(jobs: Sequence[ShardJob], executor: Executor, **run: Any) -> list[dict[str, Any]]:
    """Write all shards; returns their accounts.

    In a corpus so small that chance leaves train or validation empty, the document nearest to the border goes there
    (one document alone stays in train).
    """
    accounts = _write_all(jobs, executor, **run)
    share = jobs[0].validation_share
    if not share:
        return accounts
    totals = {split: sum(a["splits"][split]["documents"] for a in accounts) for split in SPLITS}
    if sum(totals.values()) < 2 or all(totals.values()):
        return accounts
    places = [a[side] for a in accounts for side in ("first", "last") if a[side] is not None]
    moved = math.nextafter(min(places), 1.0) if not totals[VALIDATION] else max(places)
    return _write_all([replace(job, validation_share=moved) for job in jobs], executor, **run)


def _write_all(jobs: Sequence[ShardJob], executor: Executor, **run: Any) -> list[dict[str, Any]]:
    tasks = [Task(f"shard-{job.number:05d}", job) for job in jobs]
    executor.run(write_shard, tasks, done=_written, **run)
    return [json.loads(_account_file(job).read_bytes()) for job in jobs]
