"""Exact counts of 64-bit keys over the whole corpus, with memory that follows one part or one partition.

Every part sends each of its keys once with its count; the partition of a key adds them up, and tells every part that
has it the total, and how many there are in the parts before. So each part can say of its own occurrences which number
they have in the corpus, though nobody ever saw all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import write_json_atomic
from arriero.data.dedup.rows import pack
from arriero.data.dedup.steps import EXCHANGE, Job
from arriero.data.execute.exchange import iter_partition, partition_of

KEY_COUNT = np.dtype([("key", "<u8"), ("n", "<i8")])
TOTAL = np.dtype([("key", "<u8"), ("total", "<i8"), ("base", "<i8")])
_TOP = 20
"""Most frequent keys that a report names."""


@dataclass(frozen=True)
class CountSettings:
    """``name`` of the counts in their step; keys of more than ``more_than`` are told to the parts."""

    name: str
    more_than: int
    parts: int


def send_counts(job: Job, name: str, keys: NDArray[np.uint64], counts: NDArray[np.int64]) -> None:
    """A part's distinct keys and their counts."""
    table = pack(KEY_COUNT, key=keys, n=counts)
    with job.writer(f"{name}.counts", dtype=KEY_COUNT) as writer:
        writer.scatter(partition_of(keys, job.partitions), table)


def add_counts(job: Job) -> None:
    """Totals of one partition's keys, sent to the parts that have them."""
    settings: CountSettings = job.settings
    found = list(iter_partition(job.exchange(f"{settings.name}.counts"), job.number))
    rows = np.concatenate([rows for _, rows in found]) if found else np.empty(0, KEY_COUNT)
    parts = np.repeat(np.array([int(name) for name, _ in found], np.int64), [len(rows) for _, rows in found])
    order = np.lexsort((parts, rows["key"]))
    rows, parts = rows[order], parts[order]
    totals, bases = totals_of(rows["key"], rows["n"])
    _write_summary(job, rows["key"], rows["n"], totals, bases)
    wanted = totals > settings.more_than
    replies = pack(TOTAL, key=rows["key"][wanted], total=totals[wanted], base=bases[wanted])
    with job.writer(f"{settings.name}.totals", settings.parts, TOTAL) as writer:
        writer.scatter(parts[wanted], replies)


def totals_of(
    keys: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(total of the key, sum of those before) of each of sorted ``keys``."""
    if not len(keys):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    new = np.concatenate([[True], keys[1:] != keys[:-1]])
    firsts = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    before = np.cumsum(counts) - counts
    return np.add.reduceat(counts, firsts)[group], before - before[firsts][group]


def _write_summary(job: Job, keys: Any, counts: Any, totals: Any, bases: Any) -> None:
    first = bases == 0
    order = np.lexsort((keys[first], -totals[first]))[:_TOP]
    summary = {
        "distinct": int(first.sum()),
        "occurrences": int(counts.sum()),
        "repeated": int((totals[first] > job.settings.more_than).sum()),
        "top": [[int(keys[first][i]), int(totals[first][i])] for i in order],
    }
    write_json_atomic(
        summary_folder(job.work, job.step, job.settings.name) / f"{job.number:06d}.json", summary
    )


def summary_folder(work: Path, step: str, name: str) -> Path:
    """Where the partitions' summaries lie."""
    return work / step / EXCHANGE / f"{name}.summary"


def read_summary(work: Path, step: str, name: str) -> dict[str, Any]:
    """Sums over all partitions, and the most frequent keys of all."""
    total: dict[str, Any] = {"distinct": 0, "occurrences": 0, "repeated": 0, "top": []}
    for path in sorted(summary_folder(work, step, name).glob("*.json")):
        for key, value in json.loads(path.read_bytes()).items():
            total[key] += value
    total["top"] = sorted(total["top"], key=lambda pair: (-pair[1], pair[0]))[:_TOP]
    return total


def look_up(keys: NDArray[np.uint64], replies: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(whether there is a reply, its position) of each key."""
    order = np.argsort(replies["key"], kind="stable")
    sorted_keys = replies["key"][order]
    if not len(order):
        return np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.int64)
    position = np.minimum(np.searchsorted(sorted_keys, keys), len(order) - 1)
    return sorted_keys[position] == keys, order[position]
