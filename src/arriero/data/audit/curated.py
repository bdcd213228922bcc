"""A curated corpus as the audit sees it: every record that was read, and what became of it in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arriero.artifacts.manifest import MANIFEST, Manifest
from arriero.data.audit.arrays import places, to_array, to_numpy
from arriero.data.audit.ledger import DECISIONS_FOLDER, LINE_EDITS_FOLDER, PARTS, open_table
from arriero.data.audit.schema import FACT, MEASURE
from arriero.data.pipeline.part import LEDGER, Part, parts_of
from arriero.data.pipeline.survivors import cut
from arriero.data.pipeline.texts import iter_framed
from arriero.data.records import Edit, Extractor, Limits
from arriero.errors import ArrieroError, DamagedArtifactError

SPLITS = ("train", "validation")
_OUTCOME = ("stage", "reason", "value", "threshold")


@dataclass(frozen=True)
class Row:
    """A record's place: ``row`` of its part's ledger, ``number`` through all parts."""

    part: Part
    row: int
    number: int


class CuratedCorpus:
    """The folder of a corpus with its parts. Nothing is read until it is asked for, and then a part at a time."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ArrieroError: there is no corpus with a ledger.
        """
        self.folder = Path(folder)
        parts = self.folder / PARTS
        self.parts: list[Part] = parts_of(parts) if parts.is_dir() else []
        if not self.parts:
            raise ArrieroError(
                f"{folder} holds no ledger: it has no {PARTS}/; give the folder of a curated corpus"
            )
        self.starts: NDArray[np.int64] = np.cumsum([0, *map(len, self.parts)])
        """int64[n_parts + 1]: number of the first record of each part."""
        # the last tables are kept: questions come part by part
        self._decisions, self._line_edits = lru_cache(2)(_decisions), lru_cache(2)(_line_edits)

    def __len__(self) -> int:
        """Records read."""
        return int(self.starts[-1])

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the ledger, with their descriptions."""
        return open_table(self.parts[0].folder / LEDGER).schema_arrow

    @property
    def figures(self) -> list[str]:
        """Columns that hold one number a document: the facts and the filters' figures."""
        return [name for name in self.schema.names if name.startswith((FACT, MEASURE))]

    def place(self, part: str, row: int) -> Row:
        """A record by its part's name and its row.

        Raises:
            ArrieroError: there is no such record.
        """
        for number, candidate in enumerate(self.parts):
            if candidate.name == part and 0 <= row < len(candidate):
                return Row(candidate, row, int(self.starts[number]) + row)
        raise ArrieroError(f"{self.folder} has no record {row} in a part '{part}'")

    def at(self, number: int) -> Row:
        """A record by its number through all parts."""
        if not 0 <= number < len(self):
            raise ArrieroError(f"{self.folder} has {len(self):,} records; there is no number {number}")
        index = int(np.searchsorted(self.starts, number, "right")) - 1
        return Row(self.parts[index], number - int(self.starts[index]), number)

    def table(self, part: Part, columns: Sequence[str]) -> pa.Table:
        """Columns of a part's ledger, where stage, reason, value and threshold say how the record ended: decisions
        of the global steps stand over the worker's."""
        have = set(self.schema.names)
        table = part.ledger([name for name in columns if name in have])
        wanted = [name for name in _OUTCOME if name in columns]
        decisions = self.decisions(part) if wanted else None
        if decisions is None or not decisions.num_rows:
            return table
        rows, steps, values, thresholds = (
            decisions[n].to_pylist() for n in ("row", "step", "value", "threshold")
        )
        final = {
            "stage": [step.partition(".")[0] for step in steps], "reason": steps, "value": values, "threshold": thresholds,
        }  # fmt: skip
        for name in wanted:
            index = table.schema.get_field_index(name)
            column = table[name].to_pylist()
            for row, value in zip(rows, final[name], strict=True):
                column[row] = value
            values = to_array(column, table.schema.field(name).type)
            table = table.set_column(index, table.schema.field(name), values)
        return table

    def tables(self, columns: Sequence[str]) -> Iterator[tuple[Part, pa.Table]]:
        """:meth:`table` of every part."""
        return ((part, self.table(part, columns)) for part in self.parts)

    def decisions(self, part: Part) -> pa.Table | None:
        """What the global steps decided on a part's documents; None where no step ran.

        Raises:
            DamagedArtifactError: a document is dropped twice, or one that is not there.
        """
        return self._decisions(self.folder / DECISIONS_FOLDER / f"{part.name}.parquet", len(part))

    def decision(self, row: Row) -> dict[str, Any] | None:
        """What a global step decided on one document; None: nothing."""
        table = self.decisions(row.part)
        if table is None:
            return None
        found = _of_row(table, row.row)
        return found[0] if found else None

    def line_edits(self, row: Row) -> list[Edit]:
        """What the global steps cut out of one text, in order."""
        table = self._line_edits(self.folder / LINE_EDITS_FOLDER / f"{row.part.name}.parquet")
        if table is None:
            return []
        found = _of_row(table, row.row)
        return sorted((Edit(e["start"], e["end"], "", e["reason"]) for e in found), key=lambda e: e.start)

    def ledger_row(self, row: Row) -> dict[str, Any]:
        """All columns of one record, as the worker wrote them."""
        return dict(part_rows(row.part, [row.row])[0])

    def texts(self, row: Row) -> tuple[str, str, str] | None:
        """(extracted, after the worker's edits, as it stands in the corpus); None where a record gave no text."""
        if row.part.frames()[row.row, 0] < 0:
            return None
        found = row.part.text(row.row)
        text = str(found["text"])
        cuts = [(edit.start, edit.end) for edit in self.line_edits(row)]
        return str(found.get("before") or text), text, cut(text, cuts) if cuts else text

    def find(self, id: str) -> Row | None:
        """The record with that identifier."""
        for number, part in enumerate(self.parts):
            found = pc.index(part.ledger(["id"])["id"], id).as_py()
            if found >= 0:
                return Row(part, int(found), int(self.starts[number]) + int(found))
        return None

    def shards(self, split: str) -> list[Path]:
        """The split's files, in order."""
        return sorted(self.folder.glob(f"{split}-*.jsonl.zst"))

    def documents(self, split: str) -> Iterator[dict[str, Any]]:
        """Documents of a split as they stand in the corpus."""
        for shard in self.shards(split):
            yield from iter_framed(shard)

    @cached_property
    def manifest(self) -> Manifest | None:
        """Of the corpus artifact; None for a bare folder."""
        return Manifest.read(self.folder) if (self.folder / MANIFEST).is_file() else None

    @cached_property
    def extractor(self) -> tuple[Extractor, Limits]:
        """What made texts of records, and its bounds, by the manifest's settings."""
        from arriero.data.extract import ExtractSettings, make_extractor

        settings = self.manifest.settings.get("extract", {}) if self.manifest else {}
        extract = ExtractSettings.model_validate(settings)
        return make_extractor(extract), extract.limits()

    @property
    def sources(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of every source, by name, as far as the manifest tells."""
        settings = self.manifest.settings.get("sources", []) if self.manifest else []
        return {
            str(source["name"]): source
            for source in settings
            if isinstance(source, dict) and source.get("name")
        }


def _decisions(path: Path, size: int) -> pa.Table | None:
    """Decisions of a part of so many rows."""
    if not path.is_file():
        return None
    table = open_table(path).read()
    rows = np.sort(to_numpy(table["row"]))
    if rows.size and (rows[0] < 0 or rows[-1] >= size):
        raise DamagedArtifactError(f"{path} decides on row {rows[-1]} of {size}; make the corpus anew")
    twice = rows[:-1][np.diff(rows) == 0]
    if twice.size:
        raise DamagedArtifactError(f"{path} drops row {twice[0]} twice; make the corpus anew")
    return table


def _line_edits(path: Path) -> pa.Table | None:
    return open_table(path).read() if path.is_file() else None


def _of_row(table: pa.Table, row: int) -> list[dict[str, Any]]:
    """What a table of decisions or cuts says of one row of the ledger."""
    found = np.flatnonzero(to_numpy(table["row"]) == row)
    return list(table.take(places(found)).to_pylist())


def part_rows(part: Part, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Some rows of a part's ledger, in the order asked; only their row groups are read."""
    file = open_table(part.folder / LEDGER)
    ends = np.cumsum([file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)])
    groups = np.searchsorted(ends, np.asarray(rows, np.int64), "right")
    found: dict[int, dict[str, Any]] = {}
    for group in sorted(set(map(int, groups))):
        start = int(ends[group - 1]) if group else 0
        wanted = [row for row, of in zip(rows, groups, strict=True) if of == group]
        table = file.read_row_group(group, use_threads=False).take(places([row - start for row in wanted]))
        found |= zip(wanted, table.to_pylist(), strict=True)
    return [found[row] for row in rows]
