"""What all steps decided, brought together: a table of drops and one of cuts for every part, and the counts."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.audit.arrays import places
from arriero.data.audit.ledger import write_table
from arriero.data.audit.schema import DECISIONS, LINE_EDITS
from arriero.data.dedup.rows import (
    CUTS,
    DROPS,
    ROWS,
    Slot,
    alive_rows,
    load_array,
    pack,
    parts_of_rows,
    read_slots,
    save_array,
    starts_of,
)  # fmt: skip
from arriero.data.dedup.steps import EXCHANGE, Job, Steps, to_parts
from arriero.data.dedup.substring import apart
from arriero.data.execute.exchange import iter_partition
from arriero.data.pipeline.part import Part

STEP = "merge"
_REQUEST = np.dtype([("survivor", "<i8"), ("row", "<i8")])
_WRITTEN = f"{EXCHANGE}/written"


def write_decisions(steps: Steps, order: tuple[str, ...], max_cluster: int) -> list[dict[str, Any]]:
    """Write ``decisions/<part>.parquet`` and ``line_edits/<part>.parquet``; gives the counts of each part."""
    steps.map_parts(STEP, "requests", send_requests, None, output="exchange:requests", after=order)
    steps.map_parts(STEP, "answers", send_answers, None, output="exchange:answers")
    steps.map_parts(STEP, "write", write_part, max_cluster, output=_WRITTEN, after=order)
    folder = steps.work / STEP / _WRITTEN
    return [json.loads(load_array(folder / f"{slot.name}.npy").tobytes()) for slot in steps.slots]


def drops_of(work: Path, slot: Slot, order: tuple[str, ...]) -> list[tuple[str, NDArray[Any]]]:
    """(step, DROP rows) of a part, in the order of the steps."""
    found = []
    for step in order:
        path = work / step / DROPS / f"{slot.name}.npy"
        if path.exists():
            found.append((step, load_array(path)))
    return found


def send_requests(job: Job) -> None:
    """Ask the parts of survivors for their ids."""
    slots = read_slots(job.work)
    with job.writer("requests", len(slots), _REQUEST) as writer:
        for _, drops in drops_of(job.work, job.part, job.after):
            drops = drops[drops["survivor"] >= 0]
            parts = parts_of_rows(drops["survivor"], starts_of(slots), slots[-1].start + slots[-1].rows)
            writer.scatter(parts, pack(_REQUEST, survivor=drops["survivor"], row=drops["row"]))


def send_answers(job: Job) -> None:
    """Tell the parts of dropped documents the ids of their survivors."""
    slots, slot = read_slots(job.work), job.part
    requests = job.read("requests", _REQUEST)
    ids = (
        Part(Path(slot.path)).ledger(["id"])["id"].take(places(requests["survivor"] - slot.start)).to_pylist()
    )
    encoded = np.array([name.encode() for name in ids] or [b""])
    dtype = np.dtype([("row", "<i8"), ("id", encoded.dtype)])
    with job.writer("answers", len(slots), dtype) as writer:
        if len(ids):
            to_parts(writer, pack(dtype, row=requests["row"], id=encoded), slots)


def write_part(job: Job) -> None:
    """The two tables of a part, and its counts."""
    slot, work = job.part, job.work
    survivors: dict[int, str] = {}
    for _, answers in iter_partition(job.exchange("answers"), slot.index):
        survivors.update(zip(answers["row"].tolist(), (name.decode() for name in answers["id"]), strict=True))
    rows: list[dict[str, Any]] = [
        {
            "row": int(drop["row"]) - slot.start, "step": step, "survivor": survivors.get(int(drop["row"])),
            "cluster": int(drop["cluster"]), "cluster_size": int(drop["size"]), "value": float(drop["value"]),
            "threshold": float(drop["threshold"]),
        }
        for step, drops in drops_of(work, slot, job.after)
        for drop in drops
    ]  # fmt: skip
    rows.sort(key=lambda row: row["row"])
    edits = list(edits_of(work, slot, job.after))
    counts = count(slot, work, rows, edits, job.settings)
    write_table(work / "decisions" / f"{slot.name}.parquet", DECISIONS, rows)
    write_table(work / "line_edits" / f"{slot.name}.parquet", LINE_EDITS, edits)
    save_array(job.output, np.frombuffer(json.dumps(counts, sort_keys=True).encode(), np.uint8))


def edits_of(work: Path, slot: Slot, order: tuple[str, ...]) -> list[dict[str, Any]]:
    """Cuts of the documents that stay, in order and apart; where steps overlap the earlier one has the span."""
    alive = alive_rows(work, slot, order)
    spans: defaultdict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for step in order:
        path = work / step / CUTS / f"{slot.name}.npy"
        if not path.exists():
            continue
        own: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for cut in load_array(path):
            own[int(cut["row"]) - slot.start].append((int(cut["start"]), int(cut["end"])))
        for row, found in own.items():
            earlier = sorted((start, end) for start, end, _ in spans[row])
            spans[row] += [(start, end, step) for start, end in apart(sorted(found), earlier)]
    return [
        {"row": row, "start": start, "end": end, "reason": step}
        for row in sorted(spans)
        if alive[row]
        for start, end, step in sorted(spans[row])
    ]


def count(
    slot: Slot, work: Path, rows: list[dict[str, Any]], edits: list[dict[str, Any]], max_cluster: int
) -> dict[str, Any]:
    """By source: documents and bytes that came, by step those that fell and what was cut; and too large clusters."""
    table = load_array(work / ROWS / f"{slot.name}.npy")
    labels = Part(Path(slot.path)).ledger(["source"])["source"].to_pylist()
    sources: dict[str, dict[str, Any]] = {}

    def account(row: int) -> dict[str, Any]:
        empty = {"documents": 0, "bytes": 0, "dropped": {}, "cut": {}}
        return sources.setdefault(str(labels[row]), empty)

    for row in np.flatnonzero(table["alive"]).tolist():
        own = account(row)
        own["documents"] += 1
        own["bytes"] += int(table["bytes"][row])
    for drop in rows:
        tally(account(drop["row"])["dropped"], drop["step"], int(table["bytes"][drop["row"]]))
    for edit in edits:
        tally(account(edit["row"])["cut"], edit["reason"], edit["end"] - edit["start"])
    large = {
        f"{row['step']} {row['cluster']}": row["cluster_size"]
        for row in rows
        if row["cluster_size"] > max_cluster
    }
    return {"sources": sources, "large_clusters": large}


def tally(counts: dict[str, list[int]], key: str, size: int) -> None:
    """Add one of ``size`` to [how many, their sizes]."""
    pair = counts.setdefault(key, [0, 0])
    pair[0] += 1
    pair[1] += size
