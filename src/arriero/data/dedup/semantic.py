"""Duplicates by meaning: vectors, k-means, cosines within a cluster (SemDeDup, Abbas et al. 2023), on the CPU."""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.embed import (
    BUCKETS,
    Embedder,
    EncoderModel,
    TfIdf,
    cosines,
    lengths,
    products,
    quantise,
    term_counts,
)  # fmt: skip
from arriero.data.dedup.minhash import scramble
from arriero.data.dedup.rows import (
    DROP,
    DROPS,
    ROWS,
    alive_rows,
    load_array,
    pack,
    read_slots,
    save_array,
    texts_of,
)  # fmt: skip
from arriero.data.dedup.settings import SemanticDuplicates
from arriero.data.dedup.steps import EXCHANGE, Job, Steps, send_drops
from arriero.data.dedup.survivor import survivor_order
from arriero.data.execute.exchange import partition_of

STEP = "duplicate.semantic"
_COUNTS, _IDF, _VECTORS, _ROWS, _CENTROIDS = (
    f"{EXCHANGE}/{name}" for name in ("document_counts", "idf", "vectors", "vector_rows", "centroids")
)
_A_CLUSTER = 1000
_BLOCK = 1024


def run_semantic(steps: Steps, settings: SemanticDuplicates, after: tuple[str, ...]) -> dict[str, Any]:
    """Drop documents whose vectors are nearly parallel to a survivor's of the same k-means cluster."""
    if not steps.slots:
        return {}
    if settings.embedder == "tfidf":
        steps.map_parts(STEP, "counts", count_documents, settings, output=_COUNTS, after=after)
        steps.map_numbers(STEP, "idf", add_documents, None, output=_IDF, count=1)
    steps.map_parts(STEP, "vectors", write_vectors, settings, output=_VECTORS, after=after)
    steps.map_numbers(STEP, "centroids", fit_centroids, settings, output=_CENTROIDS, count=1)
    centroids = load_array(steps.work / STEP / _CENTROIDS / "000000.npy", mapped=True)
    width = centroids.shape[1] + 24
    partitions = steps.partitions(width, steps.n_rows)
    steps.map_parts(STEP, "assign", send_vectors, settings, output="exchange:assigned", partitions=partitions)
    steps.map_numbers(STEP, "pairs", compare, settings, output=f"exchange:{DROPS}", count=partitions)
    steps.gather_drops(STEP)
    return {"clusters": len(centroids), "dimensions": centroids.shape[1], "embedder": settings.embedder}


def count_documents(job: Job) -> None:
    """In how many of a part's documents each hashed word is; the last number: documents."""
    settings: SemanticDuplicates = job.settings
    counts = np.zeros(BUCKETS + 1, np.int64)
    for _, text in texts_of(job.part, alive_rows(job.work, job.part, job.after)):
        counts[term_counts(text, settings.max_words)[0]] += 1
        counts[-1] += 1
    save_array(job.output, counts)


def add_documents(job: Job) -> None:
    """Document counts of all parts."""
    total = np.zeros(BUCKETS + 1, np.int64)
    for slot in read_slots(job.work):
        total += load_array(job.work / STEP / _COUNTS / f"{slot.name}.npy")
    save_array(job.output, total)


def _embedder(job: Job, settings: SemanticDuplicates) -> Embedder:
    if settings.model is not None:
        return EncoderModel(Path(settings.model), settings.max_words)
    counts = load_array(job.work / STEP / _IDF / "000000.npy")
    return TfIdf(counts[:-1], int(counts[-1]), settings.dimensions, settings.max_words)


def write_vectors(job: Job) -> None:
    """Vectors of a part's documents, and their rows."""
    settings: SemanticDuplicates = job.settings
    slot = job.part
    alive = alive_rows(job.work, slot, job.after)
    embedder = _embedder(job, settings)
    found = [quantise(v[None])[0] for v in embedder.embed(text for _, text in texts_of(slot, alive))]
    save_array(job.work / STEP / _ROWS / f"{slot.name}.npy", np.flatnonzero(alive) + slot.start)
    dimensions = getattr(embedder, "dimensions", settings.dimensions)
    save_array(job.output, np.stack(found) if found else np.empty((0, dimensions), np.int8))


def fit_centroids(job: Job) -> None:
    """K-means on a fixed sample of the documents: those whose scrambled row numbers are least."""
    settings: SemanticDuplicates = job.settings
    slots = read_slots(job.work)
    rows = [load_array(job.work / STEP / _ROWS / f"{slot.name}.npy") for slot in slots]
    order = np.concatenate([scramble(row.astype(np.uint64)) for row in rows])
    total = len(order)
    limit = np.sort(order)[min(settings.sample, total) - 1] if total else np.uint64(0)
    picked, keys = [], []
    for slot, row in zip(slots, rows, strict=True):
        key = scramble(row.astype(np.uint64))
        vectors = load_array(job.work / STEP / _VECTORS / f"{slot.name}.npy", mapped=True)
        picked.append(np.asarray(vectors[key <= limit]))
        keys.append(key[key <= limit])
    vectors = np.concatenate(picked)[np.argsort(np.concatenate(keys), kind="stable")]
    clusters = settings.clusters or max(1, min(-(-total // _A_CLUSTER), isqrt(total)))
    save_array(job.output, kmeans(vectors, clusters, settings.iterations))


def kmeans(vectors: NDArray[np.int8], clusters: int, iterations: int) -> NDArray[np.int8]:
    """int8[k, d]: centroids by direction (spherical k-means), begun from the first vectors; exact arithmetic.

    A cluster that loses all its vectors keeps its centroid. There are never more clusters than vectors.
    """
    centroids = vectors[:clusters].copy()
    before: NDArray[np.int64] | None = None
    for _ in range(iterations):
        own = nearest(vectors, centroids)
        if before is not None and np.array_equal(own, before):
            break
        before = own
        sums = np.zeros(centroids.shape, np.int64)
        for start in range(0, len(vectors), _BLOCK):
            np.add.at(sums, own[start : start + _BLOCK], vectors[start : start + _BLOCK].astype(np.int64))
        some = (sums != 0).any(1)
        centroids[some] = quantise(sums[some].astype(np.float64))
    return centroids


def nearest(vectors: NDArray[np.int8], centroids: NDArray[np.int8]) -> NDArray[np.int64]:
    """The centroid of the greatest cosine of each vector; the first of equal ones."""
    if not len(centroids):
        return np.zeros(len(vectors), np.int64)
    found = [
        np.argmax(products(vectors[start : start + _BLOCK], centroids) / lengths(centroids), axis=1)
        for start in range(0, len(vectors), _BLOCK)
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def send_vectors(job: Job) -> None:
    """A part's vectors, by cluster."""
    slot = job.part
    vectors = load_array(job.work / STEP / _VECTORS / f"{slot.name}.npy")
    rows = load_array(job.work / STEP / _ROWS / f"{slot.name}.npy")
    own = nearest(vectors, load_array(job.work / STEP / _CENTROIDS / "000000.npy"))
    scores = load_array(job.work / ROWS / f"{slot.name}.npy")["score"][rows - slot.start]
    table = pack(_dtype(vectors.shape[1]), cluster=own, row=rows, score=scores, vector=vectors)
    with job.writer("assigned", dtype=table.dtype) as writer:
        writer.scatter(partition_of(own.astype(np.uint64), job.partitions), table)


def _dtype(dimensions: int) -> np.dtype[Any]:
    return np.dtype([("cluster", "<i8"), ("row", "<i8"), ("score", "<f8"), ("vector", "i1", (dimensions,))])


def compare(job: Job) -> None:
    """Documents of the clusters of one partition that fall."""
    settings: SemanticDuplicates = job.settings
    table = job.read("assigned", _dtype(1))
    table = table[np.lexsort((table["row"], table["cluster"]))]
    groups = np.split(table, np.flatnonzero(np.diff(table["cluster"])) + 1) if len(table) else []
    found = [np.empty(0, DROP)]
    found += [alike(g["row"], g["score"], g["vector"], settings.similarity) for g in groups]
    send_drops(job, np.concatenate(found))


def alike(
    rows: NDArray[np.int64], scores: NDArray[np.float64], vectors: NDArray[np.int8], similarity: float
) -> NDArray[Any]:
    """DROP rows of one k-means cluster: by the survivor rule, a document falls to the survivor of the greatest cosine
    if that is at least ``similarity``."""
    order = survivor_order(rows, scores)
    rows, vectors = rows[order], np.ascontiguousarray(vectors[order])
    survivors = np.empty(0, np.int64)
    fell: dict[int, list[tuple[int, float]]] = {}
    for start in range(0, len(rows), _BLOCK):
        block = vectors[start : start + _BLOCK]
        best, value = _best(block, vectors[survivors])
        within = cosines(block, block)
        stays: list[int] = []
        for place in range(len(block)):
            top, who = value[place], survivors[best[place]] if len(survivors) else -1
            if stays and within[place, stays].max() > top:
                who = start + stays[int(np.argmax(within[place, stays]))]
                top = within[place, stays].max()
            if who >= 0 and top >= similarity:
                fell.setdefault(int(who), []).append((start + place, float(top)))
            else:
                stays.append(place)
        survivors = np.concatenate([survivors, np.array(stays, np.int64) + start])
    found = []
    for survivor, others in fell.items():
        cluster = min(int(rows[survivor]), *(int(rows[place]) for place, _ in others))
        found += [
            (int(rows[p]), int(rows[survivor]), cluster, len(others) + 1, v, similarity) for p, v in others
        ]
    return np.array(found, DROP)


def _best(block: NDArray[np.int8], others: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(place in ``others``, cosine) of the greatest cosine of each vector; -2 where there are none."""
    best, value = np.zeros(len(block), np.int64), np.full(len(block), -2.0)
    for start in range(0, len(others), _BLOCK):
        found = cosines(block, others[start : start + _BLOCK])
        place = found.argmax(1)
        top = found[np.arange(len(block)), place]
        better = top > value
        best[better], value[better] = place[better] + start, top[better]
    return best, value
