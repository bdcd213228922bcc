"""Counting a part's records by what became of them; tallies of parts add up to a corpus's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.pipeline.part import Part
from arriero.errors import DamagedArtifactError

NO_LANGUAGE = "unknown"
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
    kept = table.filter(pc.equal(table["stage"], ""))
    tally = Tally(_groups(table), licenses=_licenses(kept), records=table.num_rows)
    tally.edits, tally.edit_characters = _edits(kept)
    tally.pii = _pii(kept)
    decisions = corpus.decisions(part)
    if decisions is not None:
        clusters = decisions["cluster"].drop_null().to_numpy()
        tally.clusters = Counter(
            dict(zip(*(a.tolist() for a in np.unique(clusters, return_counts=True)), strict=True))
        )
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
    twice = pc.index(pc.not_equal(worker, ""), True).as_py()
    if twice >= 0:
        row, step = (decisions[name][twice].as_py() for name in ("row", "step"))
        raise DamagedArtifactError(
            f"the account of {corpus.folder} does not close: row {row} of {part.name} was dropped by"
            f" {worker[twice].as_py()} and again by {step}"
        )


def _plain(column: pa.ChunkedArray, missing: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.cast(column, pa.string()), missing)


def _groups(table: pa.Table) -> dict[Group, Sums]:
    reason = pc.if_else(
        pc.equal(table["stage"], ""), "", table["reason"]
    )  # of a kept one: what it only just keeps
    keys = {
        "source": _plain(table["source"], ""), "lang": _plain(table["lang"], NO_LANGUAGE),
        "stage": table["stage"], "reason": reason,
    }  # fmt: skip
    figures = {name: table[name] for name in ("raw_bytes", "text_bytes", "kept_bytes")}
    sums = pa.table({**keys, **figures}).group_by(list(keys)).aggregate(
        [([], "count_all"), *((name, "sum") for name in figures)]
    )  # fmt: skip
    return {
        Group(*(row[name] for name in keys)): Sums(
            row["count_all"], *(row[f"{name}_sum"] for name in figures)
        )
        for row in sums.to_pylist()
    }


def _licenses(kept: pa.Table) -> Counter[tuple[str, str]]:
    evidence = pc.list_element(pc.split_pattern(_plain(kept["license_evidence"], "unknown"), " "), 0)
    pairs = pa.table({"license": _plain(kept["license"], "unknown"), "evidence": evidence})
    counted = pairs.group_by(["license", "evidence"]).aggregate([([], "count_all")]).to_pylist()
    found: Counter[tuple[str, str]] = Counter()
    for row in counted:
        found[(row["license"], row["evidence"].rstrip(":,"))] += row["count_all"]
    return found


def _edits(kept: pa.Table) -> tuple[Counter[str], Counter[str]]:
    edits = pc.list_flatten(kept["edits"].combine_chunks())
    if not len(edits):
        return Counter(), Counter()
    start, end, replacement, reason = (
        pc.struct_field(edits, n) for n in ("start", "end", "replacement", "reason")
    )
    taken = pc.subtract(pc.subtract(end, start), pc.utf8_length(replacement))
    table = (
        pa.table({"reason": reason, "taken": taken})
        .group_by("reason")
        .aggregate([([], "count_all"), ("taken", "sum")])
    )
    rows = table.to_pylist()
    return (
        Counter({row["reason"]: row["count_all"] for row in rows}),
        Counter({row["reason"]: row["taken_sum"] for row in rows}),
    )


def _pii(kept: pa.Table) -> Counter[str]:
    found = pc.list_flatten(kept["pii"].combine_chunks())
    if not len(found):
        return Counter()
    table = pa.table({"kind": pc.struct_field(found, "kind"), "count": pc.struct_field(found, "count")})
    return Counter(
        {
            row["kind"]: row["count_sum"]
            for row in table.group_by("kind").aggregate([("count", "sum")]).to_pylist()
        }
    )
