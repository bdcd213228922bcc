"""Documents whose normalised texts are equal, by their 128-bit digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.audit.arrays import places
from arriero.data.dedup.rows import DROP, DROPS, ROWS, alive_rows, load_array, pack
from arriero.data.dedup.settings import Dedup
from arriero.data.dedup.steps import Job, Steps, send_drops
from arriero.data.execute.exchange import partition_of
from arriero.data.pipeline.part import Part

STEP = "duplicate.exact"
_DIGEST = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8"), ("score", "<f8")])


def run_exact(steps: Steps, settings: Dedup, after: tuple[str, ...]) -> dict[str, Any]:
    """Drop all but the survivor of equal documents."""
    partitions = steps.partitions(_DIGEST.itemsize, steps.n_rows)
    steps.map_parts(
        STEP, "digests", send_digests, settings, output="exchange:digests", after=after, partitions=partitions
    )
    steps.map_numbers(STEP, "groups", group_digests, settings, output=f"exchange:{DROPS}", count=partitions)
    steps.gather_drops(STEP)
    return {}


def send_digests(job: Job) -> None:
    """Digest, row and score of a part's documents, by the digest."""
    slot = job.part
    rows = np.flatnonzero(alive_rows(job.work, slot, job.after))
    column = Part(Path(slot.path)).ledger(["digest"])["digest"].take(places(rows)).to_pylist()
    digests = np.frombuffer(b"".join(column), "<u8").reshape(-1, 2)
    table = pack(
        _DIGEST, high=digests[:, 0], low=digests[:, 1], row=rows + slot.start,
        score=load_array(job.work / ROWS / f"{slot.name}.npy")["score"][rows],
    )  # fmt: skip
    with job.writer("digests", dtype=_DIGEST) as writer:
        writer.scatter(partition_of(table["high"], job.partitions), table)


def group_digests(job: Job) -> None:
    """Survivors of the groups of one partition."""
    send_drops(job, exact_drops(job.read("digests", _DIGEST)))


def exact_drops(table: NDArray[Any]) -> NDArray[Any]:
    """All but the survivor of every group of equal digests."""
    table = table[np.lexsort((table["row"], -table["score"], table["low"], table["high"]))]
    new = np.ones(len(table), np.bool_)
    new[1:] = (table["high"][1:] != table["high"][:-1]) | (table["low"][1:] != table["low"][:-1])
    firsts = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    cluster = np.minimum.reduceat(table["row"], firsts) if len(firsts) else np.empty(0, np.int64)
    sizes = np.diff([*firsts, len(table)])
    fallen = np.flatnonzero(~new)
    own = group[fallen]
    return pack(
        DROP, row=table["row"][fallen], survivor=table["row"][firsts[own]], cluster=cluster[own], size=sizes[own],
        value=1.0, threshold=1.0,
    )  # fmt: skip
