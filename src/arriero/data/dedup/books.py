"""Books that are nearly contained in a longer one: editions, reprints, parts of collected works.

Candidates share enough of a fixed sample of their shingle hashes (FracMinHash, Irber et al. 2022); every one is then
measured by the true overlap: shared shingles over those of the smaller book.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from arriero.data.dedup.settings import DuplicateBooks
from arriero.data.dedup.shingles import SHINGLES, ShingleStore, shared, write_shingles
from arriero.data.dedup.steps import EXCHANGE, Job, Steps, send_drops
from arriero.data.dedup.words import words_of
from arriero.data.execute.exchange import partition_of
from arriero.data.facts import FactsSettings
from arriero.data.pipeline.part import Part
from arriero.errors import ArrieroError

STEP = "duplicate.book"
SAMPLE = np.dtype([("key", "<u8"), ("row", "<i8")])
PAIR = np.dtype([("a", "<i8"), ("b", "<i8"), ("n", "<i8")])
OVERLAP = np.dtype([("a", "<i8"), ("b", "<i8"), ("common", "<i8")])
_ONE_IN = 64
_ALL_PAIRS = 64
"""A sampled shingle of more books than this joins each only to the longest of them."""
_OVERLAPS = f"{EXCHANGE}/overlaps"


def run_books(
    steps: Steps, settings: DuplicateBooks, facts: FactsSettings, after: tuple[str, ...]
) -> dict[str, Any]:
    """Drop the books that another contains."""
    partitions = steps.partitions(16, steps.text_bytes // 6 // _ONE_IN)
    both = (settings, facts)
    steps.map_parts(
        STEP, "samples", send_samples, both, output="exchange:samples", after=after, partitions=partitions
    )
    steps.map_numbers(
        STEP, "pairs", send_pairs, None, output="exchange:pairs", count=partitions, partitions=partitions
    )
    steps.map_numbers(STEP, "verify", verify_books, settings, output=_OVERLAPS, count=partitions)
    jobs = (settings, partitions)
    steps.map_numbers(STEP, "survivors", choose_books, jobs, output=f"exchange:{DROPS}", count=1)
    steps.gather_drops(STEP)
    folder = steps.work / STEP
    books = sum(len(load_array(folder / SHINGLES / f"{slot.name}.npy", mapped=True)) for slot in steps.slots)
    overlaps = sum(
        len(load_array(folder / _OVERLAPS / f"{n:06d}.npy", mapped=True)) for n in range(partitions)
    )
    return {"books": books, "overlapping_pairs": overlaps}


def send_samples(job: Job) -> None:
    """Shingles of a part's books, and the sample of them by which they meet."""
    settings: DuplicateBooks
    facts: FactsSettings
    settings, facts = job.settings
    slot = job.part
    rows = _books(job, settings)
    folder = job.work / job.step / SHINGLES
    write_shingles(folder, slot, rows, facts)
    with ShingleStore(folder, read_slots(job.work)) as store, job.writer("samples", dtype=SAMPLE) as writer:
        for row in (rows + slot.start).tolist():
            keys = sample(store.get(row))
            writer.scatter(
                partition_of(keys, job.partitions), pack(SAMPLE, key=keys, row=np.full(len(keys), row))
            )


def _books(job: Job, settings: DuplicateBooks) -> NDArray[np.int64]:
    """Rows of the part that are long enough, of the sources that have books."""
    slot = job.part
    alive = alive_rows(job.work, slot, job.after)
    alive &= load_array(job.work / ROWS / f"{slot.name}.npy")["bytes"] >= settings.min_words
    if settings.sources:
        sources = Part(Path(slot.path)).ledger(["source"])["source"].to_pylist()
        alive &= np.array([source in settings.sources for source in sources], np.bool_)
    return np.array(
        [row for row, text in texts_of(slot, alive) if len(words_of(text)) >= settings.min_words], np.int64
    )


def sample(shingles: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One shingle in 64, the same ones in every book."""
    return shingles[scramble(shingles) < np.uint64(2**64 // _ONE_IN)]


def send_pairs(job: Job) -> None:
    """Pairs of books with how many sampled shingles of the partition they share, by pair."""
    table = job.read("samples", SAMPLE)
    table = table[np.lexsort((table["row"], table["key"]))]
    groups = np.split(table["row"], np.flatnonzero(np.diff(table["key"])) + 1) if len(table) else []
    counts: dict[tuple[int, int], int] = {}
    with ShingleStore(job.work / job.step / SHINGLES, read_slots(job.work)) as store:
        for group in groups:
            for pair in _pairs(group.tolist(), store):
                counts[pair] = counts.get(pair, 0) + 1
    rows = np.array([(*pair, counts[pair]) for pair in sorted(counts)], PAIR)
    with job.writer("pairs", dtype=PAIR) as writer:
        writer.scatter(partition_of(rows["a"].astype(np.uint64), job.partitions), rows)


def _pairs(rows: list[int], store: ShingleStore) -> set[tuple[int, int]]:
    """Pairs of ascending rows; of very many, only those with the longest, to which the others would fall."""
    if len(rows) <= _ALL_PAIRS:
        return set(combinations(rows, 2))
    longest = max(rows, key=lambda row: (store.count(row), -row))
    return {(min(row, longest), max(row, longest)) for row in rows if row != longest}


def verify_books(job: Job) -> None:
    """Pairs of one partition whose true overlap is great enough."""
    settings: DuplicateBooks = job.settings
    table = job.read("pairs", PAIR)
    table = table[np.lexsort((table["b"], table["a"]))]
    new = np.ones(len(table), np.bool_)
    new[1:] = (table["a"][1:] != table["a"][:-1]) | (table["b"][1:] != table["b"][:-1])
    firsts = np.flatnonzero(new)
    sums = np.add.reduceat(table["n"], firsts) if len(firsts) else np.empty(0, np.int64)
    found = []
    with ShingleStore(job.work / job.step / SHINGLES, read_slots(job.work)) as store:
        for a, b, n in zip(
            table["a"][firsts].tolist(), table["b"][firsts].tolist(), sums.tolist(), strict=True
        ):
            smaller = min(store.count(a), store.count(b))
            expected = settings.overlap * smaller / _ONE_IN
            if n < expected - 6 * expected**0.5:  # six standard deviations below what such an overlap gives
                continue
            common = shared(store.get(a), store.get(b))
            if common >= settings.overlap * smaller:
                found.append((a, b, common))
    save_array(job.output, np.array(found, OVERLAP))


def choose_books(job: Job) -> None:
    """The longer book stays, whatever the survivor rule says of other documents; of equally long ones the first."""
    settings: DuplicateBooks
    settings, partitions = job.settings
    folder = job.work / job.step / _OVERLAPS
    edges = np.concatenate([load_array(folder / f"{number:06d}.npy") for number in range(partitions)])
    rows = np.unique(np.concatenate([edges["a"], edges["b"]]))
    slots = read_slots(job.work)
    with ShingleStore(job.work / job.step / SHINGLES, slots) as store:
        sizes = np.array([store.count(row) for row in rows.tolist()], np.int64)
    send_drops(job, contained(edges, rows, sizes, settings.overlap))


def contained(
    edges: NDArray[Any],
    rows: NDArray[np.int64],
    sizes: NDArray[np.int64],
    overlap: float,
) -> NDArray[Any]:
    """DROP rows: from the longest on, a book falls to the survivor that holds most of it, if that is enough."""
    others: dict[int, list[tuple[int, int]]] = {}
    for a, b, common in edges.tolist():
        others.setdefault(a, []).append((b, common))
        others.setdefault(b, []).append((a, common))
    size = dict(zip(rows.tolist(), sizes.tolist(), strict=True))
    order = np.lexsort((rows, -sizes))
    alive: set[int] = set()
    fell: dict[int, list[tuple[int, float]]] = {}
    for row in rows[order].tolist():
        held = [(-common, other) for other, common in others[row] if other in alive]
        if held:
            common, survivor = min(held)
            fell.setdefault(survivor, []).append((row, -common / size[row]))
        else:
            alive.add(row)
    found = [
        (row, survivor, min(survivor, *(r for r, _ in group)), len(group) + 1, value, overlap)
        for survivor, group in fell.items()
        for row, value in group
    ]
    return np.array(found, DROP)


def check_books(facts: FactsSettings, settings: DuplicateBooks) -> None:
    """
    Raises:
        ArrieroError: a shingle is longer than the shortest book.
    """
    if facts.shingle_words > settings.min_words:
        raise ArrieroError(
            f"books.min_words: {settings.min_words} is below shingle_words: {facts.shingle_words}"
        )
