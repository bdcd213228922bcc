"""Some splits of raw files to one part: the function that every executor runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from arriero.artifacts.commit import commit_folder, fresh_folder
from arriero.artifacts.hashing import sha256_json
from arriero.data.execute.tasks import Counts, Task
from arriero.data.pipeline.maker import Maker, Origin
from arriero.data.pipeline.part_writer import PartWriter
from arriero.data.pipeline.settings import PartSettings
from arriero.data.records import Record, Refused, Split
from arriero.data.source import Source


@dataclass(frozen=True)
class PartJob:
    """What a worker needs to know; small, and sent to it as it is."""

    name: str
    source: Source
    base: str
    splits: tuple[Split, ...]
    settings: str
    """:class:`PartSettings` as JSON."""
    folder: str
    """Where the parts lie."""
    bytes: int = 0
    """Of the raw files, for the progress."""


def part_folder(job: PartJob) -> Path:
    """The folder of the part."""
    return Path(job.folder) / job.name


def make_part(task: Task) -> Counts:
    """Read the splits, write the part; a part that is there already is left as it is.

    Raises:
        ArrieroError: the file is not there or may not be read, a library is missing, the disk is full.
    """
    job: PartJob = task.payload
    final = part_folder(job)
    if final.exists():
        return Counts()
    maker = _maker(job.settings)
    partial = final.with_name(final.name + ".partial")
    with fresh_folder(partial):
        width = maker.facts.bands * maker.facts.rows
        with PartWriter(partial, maker.schema, width) as writer:
            _fill(writer, maker, job)
            about = {
                "source": job.source.name,
                "splits": [[split.file, split.start, split.end] for split in job.splits],
                "settings": sha256_json(job.settings),
            }
            facts = writer.finish(about)
        commit_folder(partial, final)
    return Counts(facts["rows"], facts["kept"])


def _fill(writer: PartWriter, maker: Maker, job: PartJob) -> None:
    """Write all rows, or those up to the source's ``max_bytes``."""
    taken = 0
    for split, item in _records(job, maker):
        made = maker.make(item, Origin(job.source.name, split.file, job.source.license, job.source.url))
        taken += made.row["text_bytes"]
        if job.source.max_bytes is not None and taken > job.source.max_bytes:
            return
        writer.add(made.row, made.text, made.signature)


def _records(job: PartJob, maker: Maker) -> Iterator[tuple[Split, Record | Refused]]:
    for split in job.splits:
        path = Path(job.base) / split.file
        for item in job.source.reader(path).read(path, split.start, split.end, maker.limits):
            yield split, item


@lru_cache(maxsize=2)
def _maker(settings: str) -> Maker:
    """Filters may hold models: they are built once in a process."""
    return PartSettings.model_validate_json(settings).make_maker()
