"""Samples of what was dropped and of near misses: the same documents for any number of workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from arriero.artifacts.commit import PARTIAL, fsync_path
from arriero.data.audit.curated import CuratedCorpus, Row, part_rows
from arriero.data.audit.marginal import just_kept, rule_columns
from arriero.data.audit.personal import blot
from arriero.data.audit.reservoir import Reservoir
from arriero.data.filters.presets import Rule
from arriero.data.pipeline.part import Part
from arriero.data.pipeline.texts import FramedWriter, iter_framed
from arriero.data.records import Edit
from arriero.errors import ArrieroError

SAMPLES_FILE = "samples.jsonl.zst"
Kind = Literal["rejected", "near_miss", "just_kept"]
"""Dropped; dropped by little; kept by little (the reason is then the rule that it only just keeps)."""
_Group = tuple[Kind, str]
_COLUMNS = ("id", "stage", "reason", "near_miss")


class SampleSettings(BaseModel):
    """How many documents a corpus keeps as samples of its rejects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(
        default=20,
        ge=0,
        le=10_000,
        description="documents for each reason, and as many near misses of each rule, on both sides",
    )
    characters: int = Field(default=20_000, ge=100, description="characters of a sampled text that are kept")


def _sample(
    corpus: CuratedCorpus, kind: Kind, reason: str, row: Row, ledger: dict[str, Any], characters: int
) -> dict[str, Any]:
    """A document as ``samples.jsonl.zst`` has it, its text before and after edits cut to ``characters``."""
    texts = corpus.texts(row)
    decided = corpus.decision(row) or {}
    edits = [Edit(e["start"], e["end"], e["replacement"], e["reason"]) for e in ledger["edits"] or []]
    return {
        "kind": kind, "reason": reason, "id": ledger["id"], "source": ledger["source"], "part": row.part.name,
        "row": row.row, "url": ledger["url"], "lang": ledger["lang"], "value": decided.get("value", ledger["value"]),
        "threshold": decided.get("threshold", ledger["threshold"]), "survivor": decided.get("survivor"),
        "detail": ledger["meta"] if texts is None else None,
        "before": blot(texts[0], edits)[:characters] if texts and texts[0] != texts[1] else None,
        "text": texts[1][:characters] if texts else None,
        "cut": bool(texts and max(map(len, texts)) > characters),
        "edits": [e.__dict__ for e in edits if e.end <= characters],
    }  # fmt: skip


Candidates = Reservoir[_Group, tuple[str, int]]
"""(kind, reason) -> (part's name, row)."""


def sample_part(
    corpus: CuratedCorpus, part: Part, settings: SampleSettings, seed: int, rules: Sequence[Rule] = ()
) -> Candidates:
    """A part's candidates. ``rules``: those of the corpus, for the documents that only just keep one."""
    reservoir: Candidates = Reservoir(settings.size, seed)
    if not settings.size:
        return reservoir
    table = corpus.table(part, [*_COLUMNS, *rule_columns(rules, corpus.schema.names)])
    columns = [table[name].to_pylist() for name in _COLUMNS]
    kept = np.array([stage == "" for stage in columns[_COLUMNS.index("stage")]], np.bool_)
    nearest = just_kept(rules, table, kept)
    for row, (id, stage, reason, near_miss) in enumerate(zip(*columns, strict=True)):
        place = (part.name, row)
        if stage:
            reservoir.offer(("rejected", reason), id, place)
        if stage == "rules" and near_miss:
            reservoir.offer(("near_miss", reason), id, place)
        if nearest[row]:
            reservoir.offer(("just_kept", nearest[row]), id, place)
    return reservoir


def write_samples(
    corpus: CuratedCorpus,
    settings: SampleSettings,
    seed: int,
    rules: Sequence[Rule] = (),
    candidates: Iterable[Candidates] | None = None,
) -> int:
    """Choose the samples and write ``samples.jsonl.zst`` into the corpus's folder; returns how many there are.

    ``candidates``: of all parts, where workers have made them (:func:`sample_part`).
    """
    total: Candidates = Reservoir(settings.size, seed)
    for found in candidates or (sample_part(corpus, part, settings, seed, rules) for part in corpus.parts):
        total.merge(found)
    chosen = [(kind, reason, place) for (kind, reason), members in total.items() for place in members]
    by_part: dict[str, list[int]] = {}
    for number, (_, _, (part, _)) in enumerate(chosen):
        by_part.setdefault(part, []).append(number)
    samples: dict[int, dict[str, Any]] = {}
    for part, numbers in by_part.items():  # part by part: its tables are read once
        rows = [corpus.place(part, chosen[number][2][1]) for number in numbers]
        for number, row, ledger in zip(
            numbers, rows, part_rows(rows[0].part, [r.row for r in rows]), strict=True
        ):
            kind, reason, _ = chosen[number]
            samples[number] = _sample(corpus, kind, reason, row, ledger, settings.characters)
    partial = corpus.folder / f".{SAMPLES_FILE}{PARTIAL}"
    with FramedWriter(partial) as writer:
        for number in range(len(chosen)):
            writer.add(samples[number])
    fsync_path(partial)
    partial.replace(corpus.folder / SAMPLES_FILE)
    return len(chosen)


def read_samples(
    folder: Path, kind: Kind | None = None, reason: str | None = None
) -> Iterator[dict[str, Any]]:
    """The samples of a corpus, or those of a kind or reason.

    Raises:
        ArrieroError: the corpus has none.
    """
    path = Path(folder) / SAMPLES_FILE
    if not path.is_file():
        raise ArrieroError(f"{folder} holds no samples: it has no {SAMPLES_FILE}")
    for sample in iter_framed(path):
        if kind in (None, sample["kind"]) and reason in (None, sample["reason"]):
            yield sample
