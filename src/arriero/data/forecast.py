"""What a curation will leave, foreseen from the beginning of every source.

The glance reads, normalises and judges with the very functions that the run uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arriero.data.documents import Document, Source, read_source
from arriero.data.files import content_bytes, needs_extra
from arriero.data.normalise import normalise
from arriero.data.rules import Rules
from arriero.data.source_pass import decide
from arriero.errors import ArrieroError

_GLANCE = 256_000
"""Bytes looked at of each source."""


@dataclass(frozen=True)
class Forecast:
    """Documents and UTF-8 bytes of text, coming in and kept. ``whole``: the glance saw everything."""

    documents: float
    bytes: float
    kept_documents: float
    kept_bytes: float
    longest: int
    whole: bool


def foresee(source: Source, rules: Rules) -> Forecast:
    """The forecast of one source, without duplicates.

    Raises:
        ArrieroError: the file cannot be read.
    """
    seen = kept = seen_bytes = kept_bytes = longest = 0
    for document in read_source(source, raw_limit=_GLANCE):
        seen += 1
        if not isinstance(document, Document):
            seen_bytes += document.bytes
            continue
        size = len(document.text.encode())
        seen_bytes, longest = seen_bytes + size, max(longest, size)
        text = normalise(document.text)
        if decide(text, rules) is None:
            kept, kept_bytes = kept + 1, kept_bytes + len(text.encode())
    factor = _factor(source, seen)
    if source.max_bytes is not None and seen_bytes:
        factor = min(factor, max(1.0, source.max_bytes / seen_bytes))
    if source.kind == "text" and source.split == "file":
        seen, kept, longest = round(seen / factor), round(kept / factor), round(longest * factor)
    return Forecast(
        seen * factor, seen_bytes * factor, kept * factor, kept_bytes * factor, longest, whole=factor <= 1
    )  # fmt: skip


def _factor(source: Source, seen: int) -> float:
    """How much more there is than the glance saw."""
    if source.kind == "parquet":
        rows = needs_extra("pyarrow.parquet", source.path).read_metadata(source.path).num_rows
        return float(rows) / max(seen, 1)
    total = content_bytes(Path(source.path))
    return max(total / _GLANCE, 1.0)


def check_something_left(sources: Sequence[Source], forecasts: Sequence[Forecast]) -> None:
    """Refuse to plan what is certain to end with an empty corpus.

    Raises:
        ArrieroError: all sources were seen whole and no document of them is kept.
    """
    if all(f.whole for f in forecasts) and not sum(f.kept_documents for f in forecasts):
        n = round(sum(f.documents for f in forecasts))
        names = ", ".join(source.name for source in sources)
        raise ArrieroError(
            f"the corpus would be empty: the rules drop all of the {n:,} documents of {names}; loosen the rules"
            " or give other sources"
        )
