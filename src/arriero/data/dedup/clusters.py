"""From verified edges to clusters, and from clusters to the documents that fall.

Similarity does not carry over from neighbour to neighbour: in a chain of versions the ends may have little in common.
So a document of a cluster falls only to a survivor that it is itself similar to; where there is none, it survives.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.minhash import send_bands, send_edges
from arriero.data.dedup.rows import (
    DROP,
    DROPS,
    ROWS,
    Slot,
    distinct,
    load_array,
    pack,
    read_slots,
    save_array,
    starts_of,
)  # fmt: skip
from arriero.data.dedup.settings import Dedup
from arriero.data.dedup.shingles import SHINGLES, ShingleStore, jaccard
from arriero.data.dedup.steps import EXCHANGE, Job, Steps, send_drops
from arriero.data.dedup.survivor import survivor_order
from arriero.data.dedup.verify import VERIFIED, edge_counts, shingle_touched, verify_edges
from arriero.data.facts import FactsSettings
from arriero.data.pipeline.part import Part

STEP = "duplicate.near"
_CLUSTER = np.dtype([("cluster", "<i8"), ("row", "<i8")])
_CLUSTERS = f"{EXCHANGE}/clusters"
_ROWS_A_JOB = 50_000
_MARGIN = 0.25
"""Signatures that agree this much less than the threshold asks (over six standard deviations of the estimate with 112
values) spare the comparison of the shingles."""
_SURVIVORS = 4096
"""Survivors of one cluster that others are compared with; those after them only ever stay."""


def run_near(steps: Steps, settings: Dedup, facts: FactsSettings, after: tuple[str, ...]) -> dict[str, Any]:
    """Drop near-duplicates: bands, edges, shingles, verification, clusters, survivors."""
    keys = settings.bands * settings.groupings * steps.n_rows
    partitions = steps.partitions(16, keys)
    steps.map_parts(
        STEP, "bands", send_bands, settings, output="exchange:bands", after=after, partitions=partitions
    )
    steps.map_numbers(
        STEP, "edges", send_edges, settings, output="exchange:edges", count=partitions, partitions=partitions
    )
    steps.map_parts(STEP, "shingles", shingle_touched, facts, output=SHINGLES)
    steps.map_numbers(STEP, "verify", verify_edges, settings, output=VERIFIED, count=partitions)
    steps.map_numbers(STEP, "clusters", find_clusters, partitions, output=_CLUSTERS, count=1)
    table = load_array(steps.work / STEP / _CLUSTERS / "000000.npy", mapped=True)
    jobs = max(1, len(cluster_ranges(table)))
    steps.map_numbers(STEP, "survivors", choose_survivors, settings, output=f"exchange:{DROPS}", count=jobs)
    steps.gather_drops(STEP)
    sizes = np.diff([*_bounds(table), len(table)]) if len(table) else np.zeros(0, np.int64)
    return {
        **edge_counts(steps.work, STEP),
        "clusters": len(sizes),
        "largest_linked": int(sizes.max()) if len(sizes) else 0,
    }


def find_clusters(job: Job) -> None:
    """Connected components of all verified edges: (cluster, row), cluster the smallest row of it."""
    folder = job.work / job.step / VERIFIED
    count: int = job.settings
    batches = (load_array(folder / f"{number:06d}.npy") for number in range(count))
    rows, labels = components(batches, lambda: (load_array(folder / f"{n:06d}.npy") for n in range(count)))
    table = pack(_CLUSTER, cluster=labels, row=rows)
    save_array(job.output, table[np.lexsort((table["row"], table["cluster"]))])


def components(batches: Iterable[NDArray[Any]], again: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, smallest row of each one's component), of edges that come in batches; ``again()`` gives the same batches.

    Memory: 16 bytes a row that has an edge, and one batch.
    """
    rows = np.empty(0, np.int64)
    for edges in batches:
        rows = distinct(np.concatenate([rows, edges["a"], edges["b"]]))
    labels = np.arange(len(rows))
    for edges in again():
        a, b = np.searchsorted(rows, edges["a"]), np.searchsorted(rows, edges["b"])
        while True:
            low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
            apart = low != high
            if not apart.any():
                break
            np.minimum.at(labels, high[apart], low[apart])
            while not np.array_equal(shorter := labels[labels], labels):
                labels = shorter
    return rows, rows[labels]


def _bounds(table: NDArray[Any]) -> NDArray[np.int64]:
    """Positions at which a cluster begins."""
    clusters = table["cluster"]
    return (
        np.flatnonzero(np.concatenate([[True], clusters[1:] != clusters[:-1]]))
        if len(table)
        else np.zeros(0, int)
    )


def cluster_ranges(table: NDArray[Any]) -> list[tuple[int, int]]:
    """Ranges of the table that hold whole clusters, of about equal size."""
    ends = [*_bounds(table)[1:].tolist(), len(table)] if len(table) else []
    ranges: list[tuple[int, int]] = []
    start = 0
    for end in ends:
        if end - start >= _ROWS_A_JOB or end == len(table):
            ranges.append((start, end))
            start = end
    return ranges


def choose_survivors(job: Job) -> None:
    """Which documents of one range of clusters fall, and to whom."""
    settings: Dedup = job.settings
    assert settings.threshold is not None
    table = load_array(job.work / job.step / _CLUSTERS / "000000.npy", mapped=True)
    ranges = cluster_ranges(table)
    slots = read_slots(job.work)
    found = []
    if ranges:
        table = np.array(table[slice(*ranges[job.number])])
        bounds = [*_bounds(table).tolist(), len(table)]
        figures = _Figures(job.work, slots)
        with ShingleStore(job.work / job.step / SHINGLES, slots) as store:
            for start, end in itertools.pairwise(bounds):
                found += fallen(table["row"][start:end], figures, store, settings.threshold)
    send_drops(job, np.array(found, DROP))


class _Figures:
    """Scores and signatures of rows, by part, a few parts at a time."""

    def __init__(self, work: Path, slots: list[Slot]) -> None:
        self._work, self._slots, self._starts = work, slots, starts_of(slots)

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
        """float64[n], uint32[n, bands * rows] of global rows in ascending order."""
        parts = np.searchsorted(self._starts, rows, "right") - 1
        scores, signatures = [], []
        for index in distinct(parts).tolist():
            slot = self._slots[index]
            own = rows[parts == index] - slot.start
            scores.append(load_array(self._work / ROWS / f"{slot.name}.npy", mapped=True)["score"][own])
            signatures.append(np.asarray(Part(Path(slot.path)).signatures()[own]))
        return np.concatenate(scores), np.concatenate(signatures)


def fallen(
    rows: NDArray[np.int64], figures: Any, store: ShingleStore, threshold: float
) -> list[tuple[int, int, int, int, float, float]]:
    """DROP rows of one cluster (global rows, ascending): by the survivor rule, each document falls to the survivor
    whose signature is most like its own among those with a true similarity at or over the threshold, or survives.
    """
    scores, signatures = figures.of(rows)
    survivors: list[int] = []  # positions in rows
    table = np.empty((min(len(rows), _SURVIVORS), signatures.shape[1]), np.uint32)
    fell: dict[int, list[tuple[int, float]]] = {}
    for position in survivor_order(rows, scores).tolist():
        known = min(len(survivors), len(table))
        agreement = (table[:known] == signatures[position]).mean(1)
        shingles = store.get(int(rows[position]))
        for candidate in _most_alike(agreement, threshold - _MARGIN):
            similarity = jaccard(shingles, store.get(int(rows[survivors[candidate]])))
            if similarity >= threshold:
                fell.setdefault(survivors[candidate], []).append((position, similarity))
                break
        else:
            if known < len(table):
                table[known] = signatures[position]
            survivors.append(position)
    found = []
    for survivor, others in fell.items():
        cluster = min(int(rows[survivor]), *(int(rows[position]) for position, _ in others))
        found += [
            (int(rows[position]), int(rows[survivor]), cluster, len(others) + 1, similarity, threshold)
            for position, similarity in others
        ]
    return found


def _most_alike(agreement: NDArray[np.float64], least: float) -> Iterator[int]:
    """Positions of the values of at least ``least``, the greatest first, equal ones in order."""
    positions = np.flatnonzero(agreement >= least)
    return iter(positions[np.argsort(-agreement[positions], kind="stable")].tolist())
