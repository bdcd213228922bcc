"""Lists of documents by what became of them, a page at a time: parts are read only as far as the page needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arriero.data.audit.curated import CuratedCorpus, Row
from arriero.data.audit.inspect.figures import Figure, Histograms
from arriero.data.audit.marginal import just_kept
from arriero.data.filters.presets import Rule
from arriero.errors import ArrieroError

PAGE = 40
_SNIPPET = 240
KINDS = ("kept", "rejected", "near_miss", "just_kept")
_COLUMNS = (
    "id", "source", "lang", "stage", "reason", "value", "threshold", "near_miss", "raw_bytes", "text_bytes", "kept_bytes", "url",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Which documents to list; what is empty selects all. ``low``, ``high``: of the figure."""

    kind: str = ""
    reason: str = ""
    source: str = ""
    lang: str = ""
    figure: str = ""
    low: float = -np.inf
    high: float = np.inf

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Wanted:
        """From a query.

        Raises:
            ArrieroError: a value is none.
        """
        kind = given.get("kind", "")
        if kind and kind not in KINDS:
            raise ArrieroError(f"kind should be one of {', '.join(KINDS)}, not '{kind}'")
        try:
            low, high = float(given.get("low") or -np.inf), float(given.get("high") or np.inf)
        except ValueError:
            raise ArrieroError("low and high should be numbers") from None
        text = {name: given.get(name, "") for name in ("reason", "source", "lang", "figure")}
        return cls(kind, **text, low=low, high=high)


class Listing:
    """Pages of documents of one corpus."""

    def __init__(self, corpus: CuratedCorpus, rules: Sequence[Rule], histograms: Histograms) -> None:
        self._corpus, self._rules, self._histograms = corpus, list(rules), histograms

    def page(self, wanted: Wanted, start: int = 0, size: int = PAGE) -> dict[str, Any]:
        """Documents from record number ``start`` on; ``next`` is where the next page starts, None at the end."""
        figure = self._histograms.figure(wanted.figure) if wanted.figure else None
        found: list[dict[str, Any]] = []
        for number, row in self._rows(wanted, figure, start):
            if len(found) == size:
                return {"documents": found, "next": number}
            found.append(row)
        return {"documents": found, "next": None}

    def _rows(
        self, wanted: Wanted, figure: Figure | None, start: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        extra = [*(figure.columns if figure else ())]
        if wanted.kind == "just_kept":
            extra += [
                name for rule in self._rules for name in rule.columns if name in self._corpus.schema.names
            ]
        columns = list(dict.fromkeys([*_COLUMNS, *extra]))
        for index, part in enumerate(self._corpus.parts):
            first = int(self._corpus.starts[index])
            if first + len(part) <= start:
                continue
            table = self._corpus.table(part, columns)
            mask = self._mask(table, wanted, figure)
            mask[: max(0, start - first)] = False
            values = figure.values(table) if figure else None
            chosen = table.select(list(_COLUMNS))
            for row in np.flatnonzero(mask):
                place = Row(part, int(row), first + int(row))
                value = None if values is None else float(values[row])
                yield place.number, self._line(place, chosen.slice(row, 1).to_pylist()[0], value)

    def _mask(self, table: pa.Table, wanted: Wanted, figure: Figure | None) -> NDArray[np.bool_]:
        kept = pc.equal(table["stage"], "").to_numpy(zero_copy_only=False)
        mask = np.ones(table.num_rows, bool)
        if wanted.kind == "just_kept":
            nearest = just_kept(self._rules, table, kept)
            return (
                mask
                & (nearest == wanted.reason if wanted.reason else nearest != "")
                & self._of(table, wanted)
            )
        if wanted.kind:
            mask &= kept if wanted.kind == "kept" else ~kept
        if wanted.kind == "near_miss":
            mask &= table["near_miss"].to_numpy(zero_copy_only=False)
        if wanted.reason:
            exact = pc.or_(pc.equal(table["reason"], wanted.reason), pc.equal(table["stage"], wanted.reason))
            mask &= exact.to_numpy(zero_copy_only=False)
        if figure is not None:
            values = figure.values(table)
            mask &= (values >= wanted.low) & (values <= wanted.high)
        return mask & self._of(table, wanted)

    @staticmethod
    def _of(table: pa.Table, wanted: Wanted) -> NDArray[np.bool_]:
        mask = np.ones(table.num_rows, bool)
        for name, value in (("source", wanted.source), ("lang", wanted.lang)):
            if value:
                plain = pc.fill_null(pc.cast(table[name], pa.string()), "unknown")
                mask &= pc.equal(plain, value).to_numpy(zero_copy_only=False)
        return mask

    def _line(self, place: Row, ledger: dict[str, Any], figure: float | None) -> dict[str, Any]:
        snippet = ""
        if place.part.frames()[place.row, 0] >= 0:
            snippet = " ".join(str(place.part.text(place.row)["text"][: 2 * _SNIPPET]).split())[:_SNIPPET]
        return {"number": place.number, **ledger, "snippet": snippet, "figure": figure}
