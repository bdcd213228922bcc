"""Lines and paragraphs that many documents hold, counted exactly over the corpus, and cut.

Two passes over hashes (CCNet, Wenzek et al. 2020: 64 bits of the line in lower case, digits as 0, without punctuation);
no Bloom filter, so no line is cut that was not there before (up to equal 64-bit hashes).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.counts import TOTAL, CountSettings, add_counts, look_up, read_summary, send_counts
from arriero.data.dedup.rows import (
    CUT,
    CUTS,
    DROP,
    DROPS,
    Slot,
    alive_rows,
    cuts_of,
    load_array,
    pack,
    save_array,
    texts_of,
)  # fmt: skip
from arriero.data.dedup.settings import DuplicateLines
from arriero.data.dedup.steps import EXCHANGE, Job, Steps
from arriero.data.facts import lines, paragraphs
from arriero.data.pipeline.part import Part

LINES, PARAGRAPHS = "duplicate.line", "duplicate.paragraph"
UNIT = np.dtype([("row", "<i8"), ("key", "<u8"), ("start", "<i4"), ("end", "<i4"), ("ink", "<i4")])
"""A line (or paragraph) of a document with what separates it from the next; ``ink``: characters but white space."""
_UNITS, _INK, _REPORT = f"{EXCHANGE}/units", f"{EXCHANGE}/ink", "report"


def run_lines(steps: Steps, step: str, settings: DuplicateLines, after: tuple[str, ...]) -> dict[str, Any]:
    """Count, then cut (or only report) the repeated lines (``step`` LINES) or paragraphs (PARAGRAPHS)."""
    partitions = steps.partitions(16, steps.text_bytes // 40)
    counting = CountSettings("lines", settings.more_than, len(steps.slots))
    steps.map_parts(
        step,
        "units",
        send_units,
        settings,
        output="exchange:lines.counts",
        after=after,
        partitions=partitions,
    )
    steps.map_numbers(step, "totals", add_counts, counting, output="exchange:lines.totals", count=partitions)
    steps.map_parts(step, "cuts", cut_lines, settings, output=_REPORT)
    summary = read_summary(steps.work, step, "lines")
    reports = [load_array(steps.work / step / _REPORT / f"{slot.name}.npy") for slot in steps.slots]
    cut = np.sum(reports, axis=0) if reports else np.zeros(3, np.int64)
    examples = _examples(steps, step, dict(map(tuple, summary.pop("top"))), settings.more_than)
    return {
        **summary, "repeated_occurrences": int(cut[0]), "cut": int(cut[1]), "characters_cut": int(cut[2]),
        "most_frequent": examples,
    }  # fmt: skip


def send_units(job: Job) -> None:
    """Units of a part's documents, kept for the second pass, and how many documents hold each key."""
    settings: DuplicateLines = job.settings
    slot = job.part
    found, ink = [np.empty(0, UNIT)], np.zeros(slot.rows, np.int64)
    earlier = cuts_of(job.work, slot, job.after)
    for row, text in texts_of(slot, alive_rows(job.work, slot, job.after)):
        units, ink[row] = units_of(text, job.step, settings, earlier.get(row, []))
        units["row"] = row + slot.start
        found.append(units)
    table = np.concatenate(found)
    folder = job.work / job.step
    save_array(folder / _INK / f"{slot.name}.npy", ink)
    save_array(folder / _UNITS / f"{slot.name}.npy", table)
    keys, counts = np.unique(np.unique(table[["key", "row"]])["key"], return_counts=True)
    send_counts(job, "lines", keys, counts)


def units_of(
    text: str, step: str, settings: DuplicateLines, earlier: Sequence[tuple[int, int]] = ()
) -> tuple[NDArray[Any], int]:
    """(UNIT rows of the lines or paragraphs that may be cut, characters of the text that are not white space); what
    ``earlier`` spans cut does not count.
    """
    found = lines(text) if step == LINES else paragraphs(text)
    starts, ends = found.start, found.end
    ink = ink_before(text, earlier)
    stops = np.append(starts[1:], len(text))
    keep = (ends - starts >= settings.min_characters) & (found.words >= settings.min_words)
    keep &= (found.hash != 0) & (ink[stops] > ink[starts])  # 0: punctuation alone
    units = pack(UNIT, row=0, key=found.hash[keep], start=starts[keep], end=stops[keep],
                 ink=(ink[stops] - ink[starts])[keep])  # fmt: skip
    return units, int(ink[-1])


def ink_before(text: str, cuts: Sequence[tuple[int, int]] = ()) -> NDArray[np.int64]:
    """int64[characters + 1]: characters before each place that are not white space and not in ``cuts``."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    blank = (codes <= 32) | (codes == 0xA0) | (codes == 0x3000)
    for start, end in cuts:
        blank[start:end] = True
    return np.concatenate([[0], np.cumsum(~blank)])


def cut_lines(job: Job) -> None:
    """Cuts of a part; documents that lose too much fall; counts for the report."""
    settings: DuplicateLines = job.settings
    slot, folder = job.part, job.work / job.step
    units = load_array(folder / _UNITS / f"{slot.name}.npy")
    repeated, surplus = occurrence_cuts(units, job.read("lines.totals", TOTAL), settings.keep)
    report = np.array([repeated.sum(), 0, 0], np.int64)
    if settings.action == "cut":
        cuts = units[surplus]
        drops, cuts = split_drops(
            cuts, load_array(folder / _INK / f"{slot.name}.npy"), slot, settings.drop_above
        )
        report[1:] = len(cuts), int((cuts["end"] - cuts["start"]).sum())
        save_array(folder / DROPS / f"{slot.name}.npy", drops)
        cuts = cuts[np.lexsort((cuts["start"], cuts["row"]))]
        save_array(
            folder / CUTS / f"{slot.name}.npy",
            pack(CUT, row=cuts["row"], start=cuts["start"], end=cuts["end"]),
        )
    save_array(job.output, report)


def occurrence_cuts(
    units: NDArray[Any], replies: NDArray[Any], keep: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(units whose key is repeated, those of them that are not in one of the first ``keep`` documents that hold it).

    Within one document all units of a key stand or fall together.
    """
    repeated, position = look_up(units["key"], replies)
    surplus = np.zeros(len(units), np.bool_)
    some = np.flatnonzero(repeated)
    order = some[np.lexsort((units["row"][some], units["key"][some]))]
    keys, rows = units["key"][order], units["row"][order]
    new_key = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(order) else np.zeros(0, np.bool_)
    new_row = new_key | np.concatenate([[True], rows[1:] != rows[:-1]]) if len(order) else new_key
    number = np.cumsum(new_row)
    number = number - number[np.flatnonzero(new_key)][np.cumsum(new_key) - 1] if len(order) else number
    surplus[order] = replies["base"][position[order]] + number >= keep
    return repeated, surplus


def split_drops(
    cuts: NDArray[Any], ink: NDArray[np.int64], slot: Slot, drop_above: float | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(documents that lose too much, the cuts of the others). ``cuts`` have the fields row and ink and do not overlap."""
    rows, own = np.unique(cuts["row"], return_inverse=True)
    lost = np.bincount(own, weights=cuts["ink"], minlength=len(rows)).astype(np.int64)
    total = ink[rows - slot.start]
    share = lost / np.maximum(total, 1)
    limit = 1.0 if drop_above is None else drop_above
    falls = (lost >= total) if drop_above is None else (share > drop_above) | (lost >= total)
    dropped = pack(
        DROP, row=rows[falls], survivor=-1, cluster=rows[falls], size=1, value=share[falls], threshold=limit
    )
    return dropped, cuts[~falls[own]] if len(cuts) else cuts


def _examples(steps: Steps, step: str, wanted: dict[int, int], more_than: int) -> list[dict[str, Any]]:
    """Text of the most frequent lines, from the first part that has each."""
    found: dict[int, str] = {}
    keys = np.array(sorted(key for key, count in wanted.items() if count > more_than), np.uint64)
    for slot in steps.slots:
        units = load_array(steps.work / step / _UNITS / f"{slot.name}.npy", mapped=True)
        for unit in units[np.flatnonzero(np.isin(units["key"], keys))]:
            if int(unit["key"]) not in found:
                text = Part(Path(slot.path)).text(int(unit["row"]) - slot.start)["text"]
                found[int(unit["key"])] = text[unit["start"] : unit["end"]].strip()[:200]
        keys = np.array([key for key in keys.tolist() if key not in found], np.uint64)
        if not len(keys):
            break
    return [
        {"text": found[key], "documents": count}
        for key, count in sorted(wanted.items(), key=lambda pair: (-pair[1], pair[0]))
        if key in found
    ]
