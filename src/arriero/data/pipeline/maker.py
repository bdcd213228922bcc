"""From one record to its ledger row and its text: extraction, edits, facts, filters."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.audit.personal import blot
from arriero.data.audit.schema import DIGEST_BYTES, FACT, ledger_schema
from arriero.data.facts import FACTS, FactsSettings, measure
from arriero.data.filters.base import Doc, Editor, Filter, Verdict, merge_edits
from arriero.data.normalise import normalise
from arriero.data.records import Edit, Extraction, Extractor, Limits, Record, Refused, apply_edits

if TYPE_CHECKING:
    import pyarrow as pa

PII = "pii."
"""Reasons of edits that mask personal data begin so."""


@dataclass(frozen=True)
class Origin:
    """What a source says of all its records."""

    source: str
    file: str
    license: str
    url: str | None = None

    @property
    def prefix(self) -> str:
        """What makes a record's identifier unique in the corpus."""
        folder, slash, _ = self.file.rpartition("/")
        return f"{self.source}:{folder}{slash}"


@dataclass(frozen=True)
class Made:
    """What became of a record."""

    row: dict[str, Any]
    text: dict[str, Any] | None = None
    signature: NDArray[np.uint32] | None = None


class Maker:
    """Turns records into rows. Built once in a worker; holds the filters' models. Pure: equal in, equal out."""

    def __init__(
        self,
        facts: FactsSettings,
        extractor: Extractor,
        editors: Sequence[Editor],
        filters: Sequence[Filter],
        measures: Sequence[str],
        limits: Limits,
    ) -> None:
        self.facts, self.limits = facts, limits
        self._extractor, self._editors = extractor, editors
        self._before = [one for one in filters if one.needs == "record"]
        self._after = [one for one in filters if one.needs == "text"]
        self.schema: pa.Schema = ledger_schema(FACTS, measures)

    def make(self, item: Record | Refused, origin: Origin) -> Made:
        """The row of a record, its text and its signature; of a refused one the row alone."""
        row = _start(item, origin)
        if isinstance(item, Refused):
            return _refused(row, "read", item)
        row["raw_bytes"] = len(item.content) if isinstance(item.content, bytes) else _size(item.content)
        verdict = self._judge(self._before, Doc(row["id"], "", origin.source, row["url"]), row)
        if verdict is not None:
            return Made(row)
        extracted = self._extractor.extract(item, self.limits)
        if isinstance(extracted, Refused):
            return _refused(row, "extract", extracted)
        return self._of_text(extracted, row, origin)

    def _of_text(self, extracted: Extraction, row: dict[str, Any], origin: Origin) -> Made:
        _take_extraction(row, extracted)
        before = normalise(extracted.text)
        edits = merge_edits(editor.edits(before, row) for editor in self._editors) if self._editors else []
        text = normalise(apply_edits(before, edits)) if edits else before
        facts = measure(text, self.facts)
        row |= {
            "text_bytes": _size(before) if edits else int(facts.values["bytes"]),
            "kept_bytes": int(facts.values["bytes"]),
            "digest": hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).digest(),
            "edits": [edit.__dict__ for edit in edits],
            "pii": _pii_counts(edits),
            **{FACT + name: value for name, value in facts.values.items()},
        }
        if not text:
            row |= {"stage": "extract", "reason": "extract.empty", "value": 0.0, "threshold": 1.0}
        else:
            doc = Doc(row["id"], text, origin.source, row["url"], before if edits else None, edits, row)
            self._judge(self._after, doc, row)
        kept = {"id": row["id"], "text": text} | ({"before": blot(before, edits)} if edits else {})
        return Made(row, kept, facts.signature)

    def _judge(self, filters: Sequence[Filter], doc: Doc, row: dict[str, Any]) -> Verdict | None:
        """The first filter that the document does not pass; what later ones would measure stays unmeasured."""
        for one in filters:
            row |= one.measure(doc)
            verdict = one.judge(row)
            if verdict is not None:
                row |= {
                    "stage": one.stage, "reason": verdict.reason, "value": verdict.value,
                    "threshold": verdict.threshold, "near_miss": verdict.near_miss,
                }  # fmt: skip
                return verdict
        return None


def _start(item: Record | Refused, origin: Origin) -> dict[str, Any]:
    row = {
        "id": origin.prefix + item.id, "source": origin.source, "file": origin.file, "offset": item.offset,
        "length": item.length, "in_content": item.in_content, "url": item.url or origin.url, "raw_bytes": 0,
        "text_bytes": 0, "kept_bytes": 0, "stage": "", "reason": "", "license": origin.license,
        "license_evidence": "unknown" if origin.license == "unknown" else "declared: source",
    }  # fmt: skip
    if isinstance(item, Record):
        row |= {"date": item.date, "lang": item.lang, "meta": _json(item.meta)}
        if item.license:
            row |= {"license": item.license, "license_evidence": item.license_evidence or "declared: record"}
    return row


def _refused(row: dict[str, Any], stage: str, refused: Refused) -> Made:
    row |= {"stage": stage, "reason": refused.reason, "meta": _json({"detail": refused.detail})}
    if not row["raw_bytes"]:
        row["raw_bytes"] = refused.length
    return Made(row)


def _take_extraction(row: dict[str, Any], extracted: Extraction) -> None:
    row["extractor"] = extracted.extractor
    if extracted.license:
        row |= {
            "license": extracted.license,
            "license_evidence": extracted.license_evidence or "declared: record",
        }
    if extracted.lang:
        row["lang"] = extracted.lang
    if extracted.meta:
        known = json.loads(row["meta"]) if row.get("meta") else {}
        row["meta"] = _json({**known, **extracted.meta})


def _pii_counts(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    kinds = Counter(edit.reason.removeprefix(PII) for edit in edits if edit.reason.startswith(PII))
    return [{"kind": kind, "count": count} for kind, count in sorted(kinds.items())]


def _json(meta: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(meta), ensure_ascii=False, default=str) if meta else None


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
