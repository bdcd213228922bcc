"""What a filter is: it measures a document, and judges by what was measured, one at a time or a whole ledger at once.

A filter's decision reads nothing but the ledger's columns, so other thresholds can be tried on a ledger without
reading a text again. Columns have the ledger's names: ``f_<fact>``, ``m_<figure>``, ``lang``, ``lang_score``, ``url``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from arriero.data.records import Edit

if TYPE_CHECKING:
    import pyarrow as pa

NEAR = 0.1
"""A value within this share of the threshold is a near miss."""


@dataclass(frozen=True)
class Doc:
    """What filters may look at. ``text`` is after the edits, ``before`` the extracted text where edits changed it."""

    id: str
    text: str
    source: str = ""
    url: str | None = None
    before: str | None = None
    edits: Sequence[Edit] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What is measured so far, by the ledger's names."""


@dataclass(frozen=True)
class Verdict:
    """Why a document is dropped: the reason ``<preset or filter>.<rule>``, its figure, and the threshold it broke."""

    reason: str
    value: float
    threshold: float
    near_miss: bool = False


class Filter(Protocol):
    """One test of documents; built once in a worker, where it may hold a model."""

    @property
    def stage(self) -> str:
        """The ledger's name for what drops a document here: list, optout, language, rules, perplexity, classifier."""

    @property
    def needs(self) -> Literal["record", "text"]:
        """Whether it can judge before a text is extracted (by id and address), or only by the text."""

    @property
    def reasons(self) -> Sequence[str]:
        """Every reason it can give; :meth:`judge_table` counts from 0 in it."""

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        """New columns; ``{}`` for a filter that judges by what is there."""

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        """The first thing that a document breaks; None: it passes."""

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        """The same decision for every row of a ledger: position in :attr:`reasons`, or -1."""


class Editor(Protocol):
    """Cuts or replaces parts of a text, before its facts are counted."""

    def edits(self, text: str, columns: Mapping[str, Any]) -> list[Edit]:
        """What to change, in order, without overlaps."""


def merge_edits(found: Iterable[Sequence[Edit]]) -> list[Edit]:
    """The edits of several editors of one text as one list for ``apply_edits``.

    Where two overlap the one that begins first stays, of two that begin together the longer one, of equal ones the
    earlier editor's; the other is shortened to what lies behind, so that nothing that an editor masks is left over.
    """
    merged: list[Edit] = []
    end = 0
    for edit in sorted((edit for edits in found for edit in edits), key=lambda e: (e.start, -e.end)):
        if merged and edit.start < end:
            if edit.end <= end:
                continue
            edit = Edit(end, edit.end, edit.replacement, edit.reason)
        merged.append(edit)
        end = edit.end
    return merged


def is_near(value: float, threshold: float) -> bool:
    """Whether a value lies within :data:`NEAR` of its threshold (of a threshold of 0: no value does)."""
    return abs(value - threshold) <= NEAR * abs(threshold)


def strings_of(table: pa.Table, name: str) -> list[str | None]:
    """A column of strings (plain or dictionary-encoded) as a list; all None when the table has no such column."""
    if name not in table.column_names:
        return [None] * table.num_rows
    values: list[str | None] = table.column(name).to_pylist()
    return values


def numbers_of(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column of numbers as float64, NaN where it is null or the table has no such column."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    from arriero.data.audit.arrays import to_numpy

    return np.asarray(to_numpy(table.column(name)), np.float64)


def below(values: NDArray[np.float64], least: float) -> NDArray[np.int64]:
    """-1 where a value reaches ``least`` or was not measured, else 0."""
    return np.where(values < least, 0, -1)


def at_stored_precision(value: float) -> float:
    """A figure as the ledger's float32 columns will hold it, so that both judges see the same number."""
    return float(np.float32(value))
