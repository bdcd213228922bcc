"""Which parts there will be: the canonical list of splits of all sources, and the jobs that make them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from arriero.cost.units import format_bytes
from arriero.data.execute.tasks import Task
from arriero.data.pipeline.part import PART, Part
from arriero.data.pipeline.worker import PartJob
from arriero.data.records import Split
from arriero.data.source import Source
from arriero.errors import ArrieroError

_BLANK = "extract.empty"
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst")
_LOOKED_AT = 3
"""Large compressed files of a source into which a plan looks."""


@dataclass(frozen=True)
class Planner:
    """Makes jobs. Sources count by name, so their order in the recipe changes nothing."""

    sources: Sequence[Source]
    settings: str
    folder: Path
    split_bytes: int

    def jobs(self) -> list[PartJob]:
        """All jobs, in the parts' canonical order within a source.

        A source with ``max_bytes`` is one job, so that the bytes read are counted in order.

        Raises:
            ArrieroError: a source has no file.
        """
        return [
            job
            for source in sorted(self.sources, key=lambda one: one.name)
            for job in self._of_source(source)
        ]

    def _of_source(self, source: Source) -> list[PartJob]:
        groups = self._groups(source)
        width = max(5, len(str(len(groups))))
        return [
            PartJob(
                f"{_safe(source.name)}-{number:0{width}d}", source, str(source.path.base()), tuple(splits),
                self.settings, str(self.folder), size,
            )
            for number, (splits, size) in enumerate(groups)
        ]  # fmt: skip

    def _groups(self, source: Source) -> list[tuple[list[Split], int]]:
        """Splits with their bytes; small files lie together, so that a part has about ``split_bytes``."""
        groups: list[tuple[list[Split], int]] = []
        room = 0
        for name, path in source.files():
            whole: list[tuple[int, int | None]] = [(0, None)]
            ranges = source.reader(path).splits(path, self.split_bytes) if source.max_bytes is None else whole
            total = path.stat().st_size if path.is_file() else 0
            for start, end in ranges:
                size = max(0, (total if end is None else end) - start)
                if not groups or (room < size and source.max_bytes is None):
                    groups.append(([], 0))
                    room = self.split_bytes
                splits, before = groups.pop()
                groups.append(([*splits, Split(name, start, end)], before + size))
                room -= size
        return groups


def in_one_piece(source: Source, split_bytes: int) -> str | None:
    """What a plan says of a source with a large compressed file that only one worker can read; None: there is none.

    Looks at the first such files alone, since finding their borders takes a look into them.
    """
    if source.max_bytes is not None:
        return None
    large = (
        (name, path)
        for name, path in source.files()
        if path.suffix.lower() in _PACKED and path.is_file() and path.stat().st_size > split_bytes
    )
    for name, path in islice(large, _LOOKED_AT):
        if len(source.reader(path).splits(path, split_bytes)) == 1:
            return (
                f"{source.name}: {name} ({format_bytes(path.stat().st_size)}) is compressed in one piece, which one"
                " worker reads from its beginning; several files, bgzip blocks, zstd frames with their sizes or bzip2"
                " streams are read in parallel"
            )
    return None


def tasks_of(jobs: Sequence[PartJob]) -> list[Task]:
    """Jobs as an executor takes them."""
    return [Task(job.name, job, job.bytes) for job in jobs]


def is_made(task: Task) -> bool:
    """Whether the part is there whole."""
    return (Path(task.payload.folder) / task.payload.name / PART).is_file()


def check_read(source: Source, parts: Sequence[Part]) -> None:
    """A source of which nothing could be read is a mistake of its settings, not bad input.

    Raises:
        ArrieroError: all records were refused; the line has the first one's reason.
    """
    if not parts or any(part.about["documents"] for part in parts) or not any(map(len, parts)):
        return
    for part in parts:
        table = part.ledger(["stage", "reason", "meta", "id"]).to_pylist()
        refused = next(
            (row for row in table if row["reason"] != _BLANK and row["stage"] in ("read", "extract")), None
        )
        if refused is not None:
            total = sum(map(len, parts))
            raise ArrieroError(
                f"source {source.name}: none of {total:,} records gave a text; the first,"
                f" {refused['id']}: {refused['reason']} {refused['meta'] or ''}".rstrip()
            )


def _safe(name: str) -> str:
    """The name as a file's; where that changes it, with a hash, so that two stay apart."""
    safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", name).lstrip(".-")
    return safe if safe == name else f"{safe}_{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
