"""Candidates for near-duplicates: documents whose MinHash signatures share a band (LSH).

Banding as in Leskovec et al., Mining of Massive Datasets, 3.4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.rows import alive_rows, distinct, pack, read_slots
from arriero.data.dedup.settings import Dedup
from arriero.data.dedup.steps import Job, to_parts
from arriero.data.execute.exchange import partition_of
from arriero.data.pipeline.part import Part
from arriero.errors import ArrieroError

KEY = np.dtype([("key", "<u8"), ("row", "<i8")])
EDGE = np.dtype([("a", "<i8"), ("b", "<i8")])
TOUCHED = np.dtype([("row", "<i8")])
_BLOCK = 4096
"""Signatures banded at a time."""


def band_keys(
    signatures: NDArray[np.uint32], bands: int, rows: int, groupings: int = 1
) -> NDArray[np.uint64]:
    """uint64[n, groupings * bands]: one key for every band of uint32[n, bands * rows].

    The first grouping takes the values in order; every other one in an order of its own, so that the same values
    make other bands and a pair that no band of the first shares has another chance.
    """
    keys = np.empty((len(signatures), groupings * bands), np.uint64)
    factors = scramble(np.arange(1, rows + 1, dtype=np.uint64)) | np.uint64(1)
    for grouping in range(groupings):
        order = np.arange(bands * rows)
        if grouping:
            salts = np.arange(bands * rows, dtype=np.uint64) + np.uint64(grouping << 32)
            order = np.argsort(scramble(salts), kind="stable")
        grouped = signatures[:, order].reshape(-1, bands, rows).astype(np.uint64)
        salts = scramble(np.arange(bands, dtype=np.uint64) + np.uint64((grouping + 1) << 40))
        keys[:, grouping * bands : (grouping + 1) * bands] = scramble((grouped * factors).sum(-1) + salts)
    return keys


def scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection in which every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def send_bands(job: Job) -> None:
    """Band keys of a part's documents, by key. Documents without shingles have none."""
    settings: Dedup = job.settings
    slot = job.part
    signatures = Part(Path(slot.path)).signatures()
    width = settings.bands * settings.rows
    if signatures.shape[1] != width:
        raise ArrieroError(
            f"part {slot.name} has signatures of {signatures.shape[1]} values; bands {settings.bands} x rows"
            f" {settings.rows} needs {width}: curate with these settings, or de-duplicate with those"
        )
    alive = np.flatnonzero(alive_rows(job.work, slot, job.after))
    with job.writer("bands", dtype=KEY) as writer:
        for start in range(0, len(alive), _BLOCK):
            rows = alive[start : start + _BLOCK]
            block = np.asarray(signatures[rows])
            some = (block != block[:, :1]).any(1) if width > 1 else (block[:, 0] != np.uint32(0xFFFFFFFF))
            keys = band_keys(block[some], settings.bands, settings.rows, settings.groupings)
            table = pack(KEY, key=keys.ravel(), row=np.repeat(rows[some] + slot.start, keys.shape[1]))
            writer.scatter(partition_of(table["key"], job.partitions), table)


def send_edges(job: Job) -> None:
    """Candidate edges of one partition of the keys, by their hub; and the rows that they touch, by part."""
    edges = bucket_edges(job.read("bands", KEY))
    slots = read_slots(job.work)
    touched = distinct(np.concatenate([edges["a"], edges["b"]]))
    with job.writer("touched", len(slots), TOUCHED) as writer:
        to_parts(writer, pack(TOUCHED, row=touched), slots)
    with job.writer("edges", dtype=EDGE) as writer:
        writer.scatter(partition_of(edges["a"].astype(np.uint64), job.partitions), edges)


def bucket_edges(table: NDArray[Any]) -> NDArray[Any]:
    """Edges a < b of the rows that share a key, each once, by (a, b).

    Every row of a bucket is joined to the smallest, and to the one before it: were the smallest there by chance, the
    others would still be compared with each other.
    """
    table = table[np.lexsort((table["row"], table["key"]))]
    same = np.zeros(len(table), np.bool_)
    same[1:] = table["key"][1:] == table["key"][:-1]
    position = np.arange(len(table))
    first = np.maximum.accumulate(np.where(same, 0, position)) if len(table) else position
    later = np.flatnonzero(same)
    rows = table["row"]
    stars = pack(EDGE, a=rows[first[later]], b=rows[later])
    chains = pack(EDGE, a=rows[later - 1], b=rows[later])
    return unique_edges(np.concatenate([stars, chains]))


def unique_edges(edges: NDArray[Any]) -> NDArray[Any]:
    """Edges by (a, b), each once, without loops."""
    edges = edges[edges["a"] != edges["b"]]
    edges = edges[np.lexsort((edges["b"], edges["a"]))]
    new = np.ones(len(edges), np.bool_)
    new[1:] = (edges["a"][1:] != edges["a"][:-1]) | (edges["b"][1:] != edges["b"][:-1])
    return edges[new]
