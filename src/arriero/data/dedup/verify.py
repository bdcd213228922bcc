"""Every candidate edge is measured by the true Jaccard similarity of the two documents' shingles."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import write_json_atomic
from arriero.data.dedup.minhash import EDGE, TOUCHED, unique_edges
from arriero.data.dedup.rows import distinct, pack, read_slots, save_array
from arriero.data.dedup.settings import Dedup
from arriero.data.dedup.shingles import SHINGLES, ShingleStore, jaccard, write_shingles
from arriero.data.dedup.steps import Job
from arriero.data.facts import FactsSettings

VERIFIED = "exchange/verified"
COUNTS = "exchange/counts"


def shingle_touched(job: Job) -> None:
    """Shingles of the rows of a part that candidate edges touch."""
    facts: FactsSettings = job.settings
    rows = distinct(job.read("touched", TOUCHED)["row"]) - job.part.start
    write_shingles(job.work / job.step / SHINGLES, job.part, rows, facts)


def verify_edges(job: Job) -> None:
    """Of one partition of the edges, those at or over the threshold; and how many there were."""
    settings: Dedup = job.settings
    assert settings.threshold is not None
    edges = unique_edges(job.read("edges", EDGE))
    with ShingleStore(job.work / job.step / SHINGLES, read_slots(job.work)) as store:
        found = verified(edges, store, settings.threshold)
    counts = {"candidates": len(edges), "verified": len(found)}
    write_json_atomic(job.work / job.step / COUNTS / f"{job.number:06d}.json", counts)
    save_array(job.output, found)


def verified(edges: NDArray[Any], store: ShingleStore, threshold: float) -> NDArray[Any]:
    """The edges whose documents have a Jaccard similarity of at least ``threshold``."""
    keep = np.zeros(len(edges), np.bool_)
    for number, (a, b) in enumerate(zip(edges["a"].tolist(), edges["b"].tolist(), strict=True)):
        smaller, greater = sorted((store.count(a), store.count(b)))
        if not greater or smaller / greater < threshold:  # their union is at least the greater set
            continue
        keep[number] = jaccard(store.get(a), store.get(b)) >= threshold
    found = edges[keep]
    return pack(EDGE, a=found["a"], b=found["b"])


def edge_counts(job_folder: Any, step: str) -> dict[str, int]:
    """Sums of what :func:`verify_edges` counted."""
    totals = {"candidates": 0, "verified": 0}
    for path in sorted((job_folder / step / COUNTS).glob("*.json")):
        for key, value in json.loads(path.read_bytes()).items():
            totals[key] += value
    return totals
