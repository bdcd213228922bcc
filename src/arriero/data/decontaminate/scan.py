"""The two passes over the parts: find the items' n-grams, then decide on the documents that hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.audit.arrays import to_numpy
from arriero.data.audit.ledger import read_rows, write_table
from arriero.data.audit.schema import DECISIONS, LINE_EDITS
from arriero.data.decontaminate.index import Hits, Index
from arriero.data.decontaminate.normalise import normalised_words, original_spans
from arriero.data.decontaminate.overlap import Found, Totals, items_in
from arriero.data.decontaminate.settings import Decontamination
from arriero.data.dedup.rows import ROW, ROWS, Slot, load_array, pack, read_slots, save_array, texts_of
from arriero.data.dedup.steps import Job
from arriero.data.dedup.words import Words
from arriero.data.pipeline.part import Part

STEP = "contaminated"
INDEX, HITS, COUNTS, FOUND = "index", "hits", "counts", "found"
HIT = np.dtype([("row", "<i8"), ("key", "<i8"), ("place", "<i4")])
FIND = np.dtype([("row", "<i8"), ("item", "<i4"), ("share", "<f8"), ("n", "<i4")])


@dataclass(frozen=True)
class ScanSettings:
    """``earlier``: folder of a de-duplication, whose drops and cuts are heeded; ``names``: JSON file of items."""

    settings: Decontamination
    earlier: Path | None


def prepare(job: Job) -> None:
    """Which documents of a part are left."""
    scan: ScanSettings = job.settings
    part = Part(Path(job.part.path))
    table = part.ledger(["stage", "kept_bytes"])
    alive = np.array([stage == "" for stage in table["stage"].to_pylist()], np.bool_) & (
        part.frames()[:, 0] >= 0
    )
    if scan.earlier is not None:
        for row in read_rows(scan.earlier / "decisions" / f"{part.name}.parquet", ["row"]):
            alive[row["row"]] = False
    sizes = np.asarray(to_numpy(table["kept_bytes"]), np.int64)
    save_array(job.output, pack(ROW, alive=alive, score=sizes, bytes=sizes))


def _documents(job: Job, scan: ScanSettings, wanted: NDArray[np.bool_]) -> Any:
    """(row in the part, text, its form, words of the form that no earlier step cut)."""
    cuts: dict[int, list[tuple[int, int]]] = {}
    if scan.earlier is not None:
        for edit in read_rows(scan.earlier / "line_edits" / f"{job.part.name}.parquet"):
            cuts.setdefault(edit["row"], []).append((edit["start"], edit["end"]))
    for row, text in texts_of(job.part, wanted):
        form, words = normalised_words(text)
        yield row, text, form, without(text, form, words, cuts.get(row, []))


def without(text: str, form: str, words: Words, cuts: list[tuple[int, int]]) -> Words:
    """The words of a form that do not begin in ``cuts`` (characters of the text, in order)."""
    if not cuts or not len(words):
        return words
    places = [low for low, _ in original_spans(text, form, words, [(i, i + 1) for i in range(len(words))])]
    bounds = np.array(cuts, np.int64)
    before = np.searchsorted(bounds[:, 0], places, "right") - 1
    return words.take((before < 0) | (np.array(places) >= bounds[before, 1]))


@lru_cache(maxsize=1)
def open_index(folder: Path) -> Index:
    """The index, opened once in a process."""
    return Index(folder)


def scan_part(job: Job) -> None:
    """All n-grams of items in a part's documents; and in how many of them each is."""
    scan: ScanSettings = job.settings
    index = open_index(job.work / STEP / INDEX)
    alive = load_array(job.work / ROWS / f"{job.part.name}.npy")["alive"]
    found = [np.empty(0, HIT)]
    for row, _, form, words in _documents(job, scan, alive):
        hits = index.find(form, words)
        if len(hits.key):
            found.append(pack(HIT, row=np.full(len(hits.key), row), key=hits.key, place=hits.place))
    table = np.concatenate(found)
    documents = np.unique(table[["key", "row"]])["key"]
    save_array(
        job.work / STEP / COUNTS / f"{job.part.name}.npy", np.stack(np.unique(documents, return_counts=True))
    )
    save_array(job.output, table)


def count_documents(job: Job) -> None:
    """In how many documents of the corpus each n-gram is."""
    index = open_index(job.work / STEP / INDEX)
    total = np.zeros(len(index.keys), np.int64)
    for slot in read_slots(job.work):
        keys, counts = load_array(job.work / STEP / COUNTS / f"{slot.name}.npy")
        total[keys] += counts
    save_array(job.output, total)


def load_counts(work: Path) -> NDArray[np.int64]:
    """What :func:`count_documents` found."""
    found: NDArray[np.int64] = load_array(work / STEP / "documents" / "000000.npy")
    return found


def decide_part(job: Job) -> None:
    """The items in a part's documents; its decisions or cuts."""
    scan: ScanSettings = job.settings
    settings, slot = scan.settings, job.part
    index = open_index(job.work / STEP / INDEX)
    counts = load_counts(job.work)
    totals = Totals(index, None if settings.common is None else counts > settings.common)
    hits = load_array(job.work / STEP / HITS / f"{slot.name}.npy")
    found: dict[int, list[Found]] = {}
    by_row: dict[int, NDArray[Any]] = {}
    for group in np.split(hits, np.flatnonzero(np.diff(hits["row"])) + 1) if len(hits) else []:
        items = items_in(Hits(group["key"], group["place"]), index, totals, settings.overlap)
        if items:
            found[int(group["row"][0])], by_row[int(group["row"][0])] = items, group
    drops = _drops(job, slot, found, settings) if settings.action == "drop" else []
    edits = _edits(job, scan, index, by_row, found) if settings.action == "cut" else []
    write_table(job.work / "decisions" / f"{slot.name}.parquet", DECISIONS, drops)
    write_table(job.work / "line_edits" / f"{slot.name}.parquet", LINE_EDITS, edits)
    table = [(row + slot.start, one.item, one.share, one.n) for row, items in found.items() for one in items]
    save_array(job.output, np.array(table, FIND))


def _drops(
    job: Job, slot: Slot, found: dict[int, list[Found]], settings: Decontamination
) -> list[dict[str, Any]]:
    """A decision for every contaminated document, naming the item of which it holds most."""
    names = json.loads((job.work / STEP / INDEX / "names.json").read_bytes()) if found else []
    rows = []
    for row, items in found.items():
        top = max(items, key=lambda one: (one.share, -one.item))
        rows.append(
            {
                "row": row, "step": STEP, "survivor": "/".join(names[top.item]), "cluster": row + slot.start,
                "cluster_size": 1, "value": top.share, "threshold": settings.overlap,
            }
        )  # fmt: skip
    return rows


def _edits(
    job: Job, scan: ScanSettings, index: Index, by_row: dict[int, NDArray[Any]], found: dict[int, list[Found]]
) -> list[dict[str, Any]]:
    """Cuts of the n-grams of the items that are in a document."""
    wanted = np.zeros(job.part.rows, np.bool_)
    wanted[list(found)] = True
    edits = []
    for row, text, form, words in _documents(job, scan, wanted):
        hits = by_row[row]
        items, keys = index.items_of(np.unique(hits["key"]))
        own = keys[np.isin(items, [one.item for one in found[row]])]
        hits = hits[np.isin(hits["key"], own)]
        ends = hits["place"] + index.sizes[hits["key"]]
        spans = runs_of(hits["place"], ends, len(words))
        edits += [
            {"row": row, "start": start, "end": end, "reason": STEP}
            for start, end in original_spans(text, form, words, spans)
        ]
    return edits


def runs_of(starts: NDArray[Any], ends: NDArray[Any], length: int) -> list[tuple[int, int]]:
    """Spans of words that are in any of the n-grams, joined."""
    change = np.zeros(length + 1, np.int64)
    np.add.at(change, starts, 1)
    np.add.at(change, ends, -1)
    inside = np.flatnonzero(np.diff(np.concatenate([[0], (np.cumsum(change[:-1]) > 0).astype(np.int8), [0]])))
    return list(zip(inside[::2].tolist(), inside[1::2].tolist(), strict=True))
