"""What a curation will leave, foreseen from the beginning of every source.

The glance reads, extracts, edits, measures and judges with the very objects that the run uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arriero.data.files import content_bytes
from arriero.data.pipeline.maker import Maker, Origin
from arriero.data.pipeline.settings import PartSettings
from arriero.data.quality.spread import figure_names
from arriero.data.records import Record, Refused
from arriero.data.source import Source
from arriero.errors import ArrieroError

_GLANCE = 256_000
"""Bytes of records looked at of each source."""
_HTML = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True)
class Forecast:
    """Documents and UTF-8 bytes of text, coming in and kept; bytes of HTML; ``whole``: the glance saw everything."""

    documents: float
    bytes: float
    kept_documents: float
    kept_bytes: float
    html_bytes: float
    longest: int
    whole: bool
    figures: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What filters measured of each kept text that was looked at, by the ledger's columns; NaN: not measured."""
    sizes: Sequence[float] = ()
    """Bytes that each of those texts stands for."""


@dataclass
class _Seen:
    documents: int = 0
    kept: int = 0
    bytes: int = 0
    kept_bytes: int = 0
    html_bytes: int = 0
    longest: int = 0
    end: int = 0
    in_content: bool = False
    whole: bool = True
    figures: dict[str, list[float]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def keep(self, row: Mapping[str, Any]) -> None:
        """Count a document that stays."""
        self.kept, self.kept_bytes = self.kept + 1, self.kept_bytes + row["kept_bytes"]
        self.sizes.append(row["kept_bytes"])
        for name, values in self.figures.items():
            value = row.get(name)
            values.append(math.nan if value is None else float(value))


def foresee(source: Source, settings: PartSettings) -> Forecast:
    """The forecast of one source, without duplicates.

    Raises:
        ArrieroError: a file is not there or cannot be read, or nothing of what was seen could be.
    """
    files = source.files()
    maker = settings.make_maker()
    seen = _glance(source, files[0], maker)
    factor = _factor(seen, files)
    whole = seen.whole and len(files) == 1
    if source.max_bytes is not None and seen.bytes and factor * seen.bytes > source.max_bytes:
        factor = max(1.0, source.max_bytes / seen.bytes)
    return Forecast(
        seen.documents * factor,
        seen.bytes * factor,
        seen.kept * factor,
        seen.kept_bytes * factor,
        seen.html_bytes * factor,
        seen.longest,
        whole,
        seen.figures,
        [factor * size for size in seen.sizes],
    )


def _glance(source: Source, file: tuple[str, Path], maker: Maker) -> _Seen:
    name, path = file
    seen, read, first = _Seen(), 0, ""
    seen.figures = {name: [] for name in figure_names(maker.schema.names)}
    origin = Origin(source.name, name, source.license, source.url)
    for item in _beginning(source, path, maker):
        made = maker.make(item, origin)
        seen.documents += 1
        read += made.row["raw_bytes"]
        seen.end, seen.in_content = item.offset + item.length, item.in_content
        if isinstance(item, Refused):
            first = first or f"{item.reason}: {item.detail}"
        elif item.content_type in _HTML:
            seen.html_bytes += made.row["raw_bytes"]
        size = made.row["text_bytes"]
        seen.bytes, seen.longest = seen.bytes + size, max(seen.longest, size)
        if not made.row["reason"]:
            seen.keep(made.row)
        if read >= _GLANCE:
            seen.whole = False
            break
    if first and not seen.bytes:
        raise ArrieroError(
            f"source {source.name}: none of the first {seen.documents:,} records of {name} gave a text; {first}"
        )
    return seen


def _beginning(source: Source, path: Path, maker: Maker) -> Iterator[Record | Refused]:
    return source.reader(path).read(path, 0, None, maker.limits)


def _factor(seen: _Seen, files: Sequence[tuple[str, Path]]) -> float:
    """How much more there is than the glance saw; the first file stands for all."""
    sizes = [path.stat().st_size for _, path in files if path.is_file()]
    if not sizes or not seen.documents:
        return 1.0
    others = sum(sizes) / max(sizes[0], 1)
    if seen.whole:
        return others
    first = content_bytes(files[0][1]) if seen.in_content else sizes[0]
    return max(first / max(seen.end, 1), 1.0) * others


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
