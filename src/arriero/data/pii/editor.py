"""Masks for personal data, and the rule for documents that hold much of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arriero.data.filters.base import Doc, Verdict, at_stored_precision, is_near, numbers_of
from arriero.data.pii.network import emails, ipv4, ipv6
from arriero.data.pii.numbers import lettered, numbers
from arriero.data.pii.phones import phones
from arriero.data.pii.scan import ROW, RUN, Found
from arriero.data.pii.secrets import secrets
from arriero.data.pii.settings import PiiSettings
from arriero.data.records import Edit

if TYPE_CHECKING:
    import pyarrow as pa

REASON = "pii."
COLUMN = "m_pii_per_1000_words"
_TAGS = {
    "email": "<EMAIL>",
    "phone": "<PHONE>",
    "ip": "<IP>",
    "card": "<CARD>",
    "iban": "<IBAN>",
    "national_id": "<ID>",
    "secret": "<SECRET>",
}
_EXAMPLES = {
    "email": "email@example.com",
    "phone": "+1-202-555-0100",
    "ip": "192.0.2.1",
    "card": "0000 0000 0000 0000",
    "iban": "XX00 0000 0000 0000",
    "national_id": "000-00-0000",
    "secret": "<SECRET>",
}
"""Values that are reserved for documentation (RFC 2606, RFC 5737, 47 CFR 52.15) or that check digits exclude."""


_LONG = 20
"""Shorter runs are looked at by every rule at once."""


def find(text: str, settings: PiiSettings) -> list[Found]:
    """Personal data in ``text``, in order and without overlaps."""
    kinds = frozenset(settings.kinds)
    found: list[Found] = []
    if "email" in kinds:
        found += emails(text)
    if "secret" in kinds:
        found += secrets(text)
    if "ip" in kinds:
        found += ipv6(text, settings.private_ips)
    if kinds & {"iban", "national_id"}:
        found += lettered(text, kinds)
    if kinds & {"phone", "ip", "card", "national_id"}:
        for run in RUN.finditer(text):
            start, end = run.span()
            if end - start > _LONG and ROW.fullmatch(text, start, end):
                continue
            if "ip" in kinds:
                found += ipv4(text, start, end, settings.private_ips)
            if kinds & {"card", "national_id"}:
                found += numbers(text, start, end, kinds)
            if "phone" in kinds:
                found += phones(text, start, end)
    return _without_overlaps(found)


def _without_overlaps(found: list[Found]) -> list[Found]:
    """Of two that overlap the rule that asks for more (the one found first) stays."""
    if len(found) < 2:
        return found
    kept: list[Found] = []
    order = {id(each): place for place, each in enumerate(found)}
    for each in sorted(found, key=lambda each: (each.start, order[id(each)])):
        if kept and each.start < kept[-1].end:
            if order[id(each)] < order[id(kept[-1])]:
                kept[-1] = each
            continue
        kept.append(each)
    return kept


class PiiEditor:
    """Replaces personal data; the edits' reasons are ``pii.<kind>``."""

    def __init__(self, settings: PiiSettings) -> None:
        self._settings = settings
        self._replacements = _TAGS if settings.style == "tag" else _EXAMPLES

    def edits(self, text: str, columns: Mapping[str, Any]) -> list[Edit]:
        """The masks, in order, without overlaps."""
        return [
            Edit(each.start, each.end, self._replacements[each.kind], REASON + each.kind)
            for each in find(text, self._settings)
            if text[each.start : each.end] != self._replacements[each.kind]
        ]


def count_kinds(edits: Iterable[Edit]) -> Counter[str]:
    """How many pieces of each kind were masked."""
    return Counter(edit.reason.removeprefix(REASON) for edit in edits if edit.reason.startswith(REASON))


class PiiFilter:
    """Drops documents with much personal data: measures ``m_pii_per_1000_words`` (0 where it is less than
    ``min_found`` pieces in all)."""

    stage = "pii"
    needs: Literal["record", "text"] = "text"
    reasons = ("pii.max_per_1000_words",)

    def __init__(self, settings: PiiSettings) -> None:
        self._least, self._most = settings.min_found, settings.max_per_1000_words

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        count = count_kinds(doc.edits).total()
        rate = 1000 * count / max(1, len(doc.text.split())) if count >= self._least else 0.0
        return {COLUMN: at_stored_precision(rate)}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        value = columns.get(COLUMN)
        if self._most is not None and value is not None and value > self._most:
            return Verdict(self.reasons[0], value, self._most, is_near(value, self._most))
        return None

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        if self._most is None:
            return np.full(table.num_rows, -1)
        return np.where(numbers_of(table, COLUMN) > self._most, 0, -1)
