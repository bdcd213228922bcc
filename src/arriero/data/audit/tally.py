"""Counting a part's records by what became of them; tallies of parts add up to a corpus's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arriero.data.audit.arrays import scalar, to_numpy
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.pipeline.part import Part
from arriero.errors import DamagedArtifactError

NO_LANGUAGE = "unknown"
_EMPTY = scalar("", pa.string())
_COLUMNS = (
    "source", "lang", "license", "license_evidence", "stage", "reason", "raw_bytes", "text_bytes", "kept_bytes", "edits", "pii",
)  # fmt: skip


class Group(NamedTuple):
    """What records are counted by. ``stage`` and ``reason`` are empty for those that were kept."""

    source: str
    lang: str
    stage: str
    reason: str


class Sums(NamedTuple):
    """Of a group: documents, bytes of the records, of their extracted texts, of their texts after edits."""

    documents: int = 0
    bytes: int = 0
    text_bytes: int = 0
    kept_bytes: int = 0

    def plus(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass
class Tally:
    """Sums of groups, and what was edited and masked in the documents that were kept."""

    groups: dict[Group, Sums] = field(default_factory=dict)
    edits: Counter[str] = field(default_factory=Counter)
    """Edits by reason."""
    edit_characters: Counter[str] = field(default_factory=Counter)
    """Characters that they took away, less those that they put in."""
    pii: Counter[str] = field(default_factory=Counter)
    licenses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Kept documents by licence and the kind of its evidence."""
    clusters: Counter[int] = field(default_factory=Counter)
    """Clusters of duplicates: members that were dropped, by cluster."""
    records: int = 0

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        for group, sums in other.groups.items():
            self.groups[group] = self.groups.get(group, Sums()).plus(sums)
        for name in ("edits", "edit_characters", "pii", "licenses", "clusters"):
            getattr(self, name).update(getattr(other, name))
        self.records += other.records


def tally_part(corpus: CuratedCorpus, part: Part) -> Tally:
    """Count one part.

    Raises:
        DamagedArtifactError: the ledger has not the rows that the part says, or a dropped document is dropped again.
    """
    table = corpus.table(part, _COLUMNS)
    if table.num_rows != len(part):
        raise DamagedArtifactError(
            f"the ledger of {part.folder} has {table.num_rows:,} rows, its part says {len(part):,}; make the corpus anew"
        )
    _check_decisions(corpus, part)
    kept = table.filter(pc.equal(table["stage"], _EMPTY))
    tally = Tally(_groups(table), licenses=_licenses(kept), records=table.num_rows)
    tally.edits, tally.edit_characters = _edits(kept)
    tally.pii = _pii(kept)
    decisions = corpus.decisions(part)
    if decisions is not None:
        clusters = to_numpy(decisions["cluster"].drop_null())
        tally.clusters = Counter(np.sort(clusters).tolist())
    return tally


def tally_corpus(corpus: CuratedCorpus) -> Tally:
    """Count all parts, one after the other."""
    total = Tally()
    for part in corpus.parts:
        total.add(tally_part(corpus, part))
    return total


def _check_decisions(corpus: CuratedCorpus, part: Part) -> None:
    decisions = corpus.decisions(part)
    if decisions is None or not decisions.num_rows:
        return
    worker = part.ledger(["stage"])["stage"].take(decisions["row"])
    twice = next((place for place, stage in enumerate(worker.to_pylist()) if stage), -1)
    if twice >= 0:
        row, step = (decisions[name][twice].as_py() for name in ("row", "step"))
        raise DamagedArtifactError(
            f"the account of {corpus.folder} does not close: row {row} of {part.name} was dropped by"
            f" {worker[twice].as_py()} and again by {step}"
        )


def _plain(column: pa.ChunkedArray, missing: str) -> list[str]:
    return [missing if value is None else value for value in column.to_pylist()]


def _groups(table: pa.Table) -> dict[Group, Sums]:
    stages = table["stage"].to_pylist()
    reasons = [  # of a kept one: what it only just keeps
        reason if stage else "" for stage, reason in zip(stages, table["reason"].to_pylist(), strict=True)
    ]
    names = zip(_plain(table["source"], ""), _plain(table["lang"], NO_LANGUAGE), stages, reasons, strict=True)
    sums: dict[Group, list[int]] = {}
    figures = (table[name].to_pylist() for name in ("raw_bytes", "text_bytes", "kept_bytes"))
    for name, *sizes in zip(names, *figures, strict=True):
        group = sums.setdefault(Group(*name), [0, 0, 0, 0])
        group[0] += 1
        for place, size in enumerate(sizes, 1):
            group[place] += size
    return {group: Sums(*figures) for group, figures in sums.items()}


def _licenses(kept: pa.Table) -> Counter[tuple[str, str]]:
    evidence = (found.split(" ")[0].rstrip(":,") for found in _plain(kept["license_evidence"], "unknown"))
    return Counter(zip(_plain(kept["license"], "unknown"), evidence, strict=True))


def _edits(kept: pa.Table) -> tuple[Counter[str], Counter[str]]:
    """By reason: how many there are, and the characters that they take away less those that they put in."""
    edits = pc.list_flatten(kept["edits"].combine_chunks())
    start, end, replacement, reason = (
        pc.struct_field(edits, n) for n in ("start", "end", "replacement", "reason")
    )
    taken = pc.subtract(pc.subtract(end, start), pc.utf8_length(replacement)).to_pylist()
    reasons = reason.to_pylist()
    characters: Counter[str] = Counter()
    for name, size in zip(reasons, taken, strict=True):
        characters[name] += size
    return Counter(reasons), characters


def _pii(kept: pa.Table) -> Counter[str]:
    found = pc.list_flatten(kept["pii"].combine_chunks())
    kinds: Counter[str] = Counter()
    for kind, count in zip(*(pc.struct_field(found, n).to_pylist() for n in ("kind", "count")), strict=True):
        kinds[kind] += count
    return kinds
