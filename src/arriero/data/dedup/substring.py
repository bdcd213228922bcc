"""Spans of words that stood in the corpus before are cut; the first occurrence stays (Lee et al. 2022).

A word is cut when it lies in a window of ``words`` words that occurred before, in canonical order; so a repeated span
of any greater length goes as a whole. Two methods find the same windows:

- ``suffix_array``: all words of the corpus in memory, suffixes sorted to the depth of a window: exact.
- ``windows``: memory flat. Every window holds an anchor that is chosen by its words alone (winnowing); anchors are
  counted over the corpus; only windows around an anchor that occurs twice are hashed (64 bits) and counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.counts import TOTAL, CountSettings, add_counts, look_up, send_counts
from arriero.data.dedup.lines import ink_before, split_drops
from arriero.data.dedup.rows import (
    CUT,
    CUTS,
    DROPS,
    alive_rows,
    cuts_of,
    join_spans,
    load_array,
    pack,
    read_slots,
    save_array,
    texts_of,
)  # fmt: skip
from arriero.data.dedup.settings import DuplicateSpans
from arriero.data.dedup.steps import EXCHANGE, Job, Steps
from arriero.data.dedup.suffix import window_names
from arriero.data.dedup.words import Words, anchors, characters_at, ngrams, words_of

STEP = "duplicate.substring"
WINDOW = np.dtype([("row", "<i8"), ("place", "<i4"), ("key", "<u8")])
MARK = np.dtype([("row", "<i8"), ("place", "<i4")])
_WINDOWS, _MARKS, _REPORT = f"{EXCHANGE}/windows", f"{EXCHANGE}/marks", "report"
_BYTES_OF_TEXT = 16
"""Memory of sorting suffixes, for a byte of text."""


def run_substring(steps: Steps, settings: DuplicateSpans, after: tuple[str, ...]) -> dict[str, Any]:
    """Find repeated spans and cut them (or only report)."""
    fits = steps.text_bytes * _BYTES_OF_TEXT <= steps.memory_bytes
    method = ("suffix_array" if fits else "windows") if settings.method == "auto" else settings.method
    if method == "suffix_array":
        if steps.slots:
            steps.map_numbers(
                STEP, "suffixes", mark_by_suffixes, (settings, after), output=f"{_MARKS}.all", count=1
            )
    else:
        _count_windows(steps, settings, after)
    steps.map_parts(STEP, "cuts", cut_spans, settings, output=_REPORT, after=after)
    reports = [load_array(steps.work / STEP / _REPORT / f"{slot.name}.npy") for slot in steps.slots]
    total = np.sum(reports, axis=0) if reports else np.zeros(4, np.int64)
    keys = ("words", "repeated_words", "cut", "characters_cut")
    return {"method": method, **{key: int(value) for key, value in zip(keys, total, strict=True)}}


def _count_windows(steps: Steps, settings: DuplicateSpans, after: tuple[str, ...]) -> None:
    parts = len(steps.slots)
    few = steps.partitions(16, steps.text_bytes // 60)
    many = steps.partitions(16, steps.text_bytes // 12)
    common = {"after": after}
    steps.map_parts(
        STEP, "anchors", send_anchors, settings, output="exchange:anchors.counts", partitions=few, **common
    )
    counting = CountSettings("anchors", 1, parts)
    steps.map_numbers(
        STEP, "anchors.totals", add_counts, counting, output="exchange:anchors.totals", count=few
    )
    steps.map_parts(
        STEP, "windows", send_windows, settings, output="exchange:windows.counts", partitions=many, **common
    )
    counting = CountSettings("windows", 1, parts)
    steps.map_numbers(
        STEP, "windows.totals", add_counts, counting, output="exchange:windows.totals", count=many
    )
    steps.map_parts(STEP, "marks", mark_by_counts, settings, output=_MARKS)


def kept_words(text: str, cuts: list[tuple[int, int]]) -> Words:
    """Words of a text without those that begin in a cut."""
    words = words_of(text)
    if not cuts or not len(words):
        return words
    bounds = np.array(cuts, np.int64)
    place = characters_at(text, words.start)
    before = np.searchsorted(bounds[:, 0], place, "right") - 1
    return words.take((before < 0) | (place >= bounds[before, 1]))


def _documents(job: Job, slot: Any, after: tuple[str, ...]) -> Any:
    """(row in the part, text, its words without cuts) of the documents that are left."""
    cuts = cuts_of(job.work, slot, after)
    for row, text in texts_of(slot, alive_rows(job.work, slot, after)):
        yield row, text, kept_words(text, cuts.get(row, []))


def send_anchors(job: Job) -> None:
    """How often each anchor occurs in a part."""
    settings: DuplicateSpans = job.settings
    found = [np.empty(0, np.uint64)]
    for _, _, words in _documents(job, job.part, job.after):
        found.append(anchors(words.hash, settings.words)[2])
    send_counts(job, "anchors", *np.unique(np.concatenate(found), return_counts=True))


def send_windows(job: Job) -> None:
    """The windows around anchors that occur twice, and how often each occurs in a part."""
    settings: DuplicateSpans = job.settings
    repeated = np.sort(job.read("anchors.totals", TOTAL)["key"])
    found = [np.empty(0, WINDOW)]
    for row, _, words in _documents(job, job.part, job.after):
        places = _windows_at(words.hash, settings.words, repeated)
        if len(places):
            keys = ngrams(words.hash, settings.words)[places]
            found.append(pack(WINDOW, row=np.full(len(places), row + job.part.start), place=places, key=keys))
    table = np.concatenate(found)
    save_array(job.work / job.step / _WINDOWS / f"{job.part.name}.npy", table)
    send_counts(job, "windows", *np.unique(table["key"], return_counts=True))


def _windows_at(hashes: NDArray[np.uint64], words: int, repeated: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places of windows that hold an anchor of ``repeated`` (sorted)."""
    k, places, keys = anchors(hashes, words)
    places = places[np.isin(keys, repeated)]
    windows = len(hashes) - words + 1
    if not len(places):
        return np.empty(0, np.int64)
    change = np.zeros(windows + 1, np.int64)
    np.add.at(change, np.maximum(places - (words - k), 0), 1)
    np.add.at(change, np.minimum(places + 1, windows), -1)
    return np.flatnonzero(np.cumsum(change[:-1]) > 0)


def mark_by_counts(job: Job) -> None:
    """The windows of a part that are not the first of their kind in the corpus."""
    settings: DuplicateSpans = job.settings
    table = load_array(job.work / job.step / _WINDOWS / f"{job.part.name}.npy")
    replies = job.read("windows.totals", TOTAL)
    known, position = look_up(table["key"], replies)
    table = table[known]
    base = replies["base"][position[known]]
    save_array(job.output, surplus_windows(table["key"], table["row"], table["place"], base, settings.words))


def mark_by_suffixes(job: Job) -> None:
    """The same of the whole corpus at once, by a suffix array."""
    settings: DuplicateSpans
    settings, after = job.settings
    hashes, rows, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    slots = read_slots(job.work)
    for slot in slots:
        for row, _, words in _documents(job, slot, after):
            if len(words) >= settings.words:
                hashes.append(words.hash)
                rows.append(np.full(len(words), row + slot.start, np.int64))
                places.append(np.arange(len(words), dtype=np.int32))
    row, place = np.concatenate(rows), np.concatenate(places)
    names = window_names(np.concatenate(hashes), settings.words)
    inside = (
        row[: len(names)] == row[len(row) - len(names) :]
    )  # a window ends in the document where it begins
    row, place = row[: len(names)][inside], place[: len(names)][inside]
    marks = surplus_windows(names[inside], row, place, np.zeros(len(row), np.int64), settings.words)
    for slot in slots:
        own = marks[slice(*np.searchsorted(marks["row"], [slot.start, slot.start + slot.rows]))]
        save_array(job.work / job.step / _MARKS / f"{slot.name}.npy", own)
    save_array(job.output, np.array([len(marks)]))


def surplus_windows(
    keys: NDArray[Any], rows: NDArray[Any], places: NDArray[Any], base: NDArray[Any], words: int
) -> NDArray[Any]:
    """MARK rows, by row and place, of the windows that repeat an earlier one.

    ``base``: occurrences of the key in the parts before. A window that overlaps the first occurrence in its own
    document (as in "ha ha ha ha") repeats only a part of it and is left.
    """
    order = np.lexsort((places, rows, keys))
    keys, rows, places, base = keys[order], rows[order], places[order], base[order]
    new = np.ones(len(keys), np.bool_)
    new[1:] = keys[1:] != keys[:-1]
    first = np.flatnonzero(new)[np.cumsum(new) - 1] if len(keys) else np.empty(0, np.int64)
    overlaps = (rows == rows[first]) & (places < places[first] + words)
    surplus = (base > 0) | ~overlaps
    marks = pack(MARK, row=rows[surplus], place=places[surplus])
    return marks[np.lexsort((marks["place"], marks["row"]))]


def cut_spans(job: Job) -> None:
    """Cuts of a part from its marks; documents that lose too much fall."""
    settings: DuplicateSpans = job.settings
    slot, folder = job.part, job.work / job.step
    marks = load_array(folder / _MARKS / f"{slot.name}.npy")
    total, repeated = 0, 0
    ink, found = np.zeros(slot.rows, np.int64), []
    marked = np.split(marks["place"], np.flatnonzero(np.diff(marks["row"])) + 1) if len(marks) else []
    by_row = dict(zip(np.unique(marks["row"]).tolist(), marked, strict=True))
    earlier = cuts_of(job.work, slot, job.after)
    for row, text, words in _documents(job, slot, job.after):
        total += len(words)
        if row + slot.start not in by_row:
            continue
        before = ink_before(text, earlier.get(row, []))
        ink[row] = before[-1]
        cut = covered(by_row[row + slot.start], settings.words, len(words))
        repeated += int(cut.sum())
        for start, end in apart(word_spans(text, words, cut), earlier.get(row, [])):
            found.append((row + slot.start, start, end, before[end] - before[start]))
    cuts = np.array(found, np.dtype([*CUT.descr, ("ink", "<i8")]))
    report = np.array([total, repeated, 0, 0], np.int64)
    if settings.action == "cut":
        drops, cuts = split_drops(cuts, ink, slot, settings.drop_above)
        report[2:] = len(cuts), int((cuts["end"] - cuts["start"]).sum())
        save_array(folder / DROPS / f"{slot.name}.npy", drops)
        save_array(
            folder / CUTS / f"{slot.name}.npy",
            pack(CUT, row=cuts["row"], start=cuts["start"], end=cuts["end"]),
        )
    save_array(job.output, report)


def covered(places: NDArray[Any], words: int, length: int) -> NDArray[np.bool_]:
    """bool[length]: words in a window of ``words`` words at one of ``places``."""
    change = np.zeros(length + 1, np.int64)
    np.add.at(change, places, 1)
    np.add.at(change, np.minimum(places + words, length), -1)
    return np.cumsum(change[:-1]) > 0


def word_spans(text: str, words: Words, cut: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Characters of the runs of words that are ``cut``, with the white space on that side which has fewer line feeds:
    a paragraph's end before or after the span stays."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], cut.astype(np.int8), [0]])))
    starts = characters_at(text, words.start[change[::2]]).tolist()
    ends = characters_at(text, words.end[change[1::2] - 1]).tolist()
    spans = []
    for start, end in zip(starts, ends, strict=True):
        before = _blank_before(text, start)
        after = _blank_from(text, end)
        breaks = text.count("\n", start - before, start), text.count("\n", end, end + after)
        if end + after == len(text) or (start > before and breaks[0] < breaks[1]):
            spans.append((start - before, end))
        else:
            spans.append((start, end + after))
    return join_spans(spans)


def _blank_before(text: str, place: int) -> int:
    start = place
    while start and text[start - 1].isspace():
        start -= 1
    return place - start


def _blank_from(text: str, place: int) -> int:
    end = place
    while end < len(text) and text[end].isspace():
        end += 1
    return end - place


def apart(spans: list[tuple[int, int]], earlier: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """``spans`` without what ``earlier`` ones (in order) cut already."""
    found = []
    for start, end in spans:
        for low, high in earlier:
            if high <= start or low >= end:
                continue
            if start < low:
                found.append((start, low))
            start = max(start, high)
        if start < end:
            found.append((start, end))
    return found
