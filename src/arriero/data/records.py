"""What flows through curation: records as a reader finds them, the text made of them, and edits of that text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Limits:
    """Bounds on one record; what breaks one is refused with a reason, never read to its end."""

    record_bytes: int = 64 << 20
    """Most bytes of a record, after decompression."""
    html_nodes: int = 400_000
    """Most tags of a page."""
    html_depth: int = 512
    """Deepest nesting of a page's tags."""
    seconds: float = 10.0
    """Most time that one record's extraction may take."""
    expansion: int = 200
    """Most times that decompressing may enlarge a file."""


@dataclass(frozen=True)
class Record:
    """One record of a raw file, before any text is made of it.

    ``offset`` and ``length`` are bytes in the file as it lies on disk where records can be reached there (plain
    files, members of .warc.gz), else in its decompressed content (``in_content``).
    """

    id: str
    content: bytes | str
    content_type: str
    """As in HTTP: text/html, text/plain, text/x-wiki, application/x-tex, text/x-code, ..."""
    offset: int
    length: int
    in_content: bool = False
    url: str | None = None
    date: str | None = None
    license: str | None = None
    """SPDX identifier where the record itself says so; else the source's."""
    license_evidence: str | None = None
    """tag | text | declared | unknown, and where it was found."""
    lang: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A record, or a rest of a file, that gives no text: one reason in the ledger, e.g. ``read.truncated``."""

    id: str
    reason: str
    detail: str
    offset: int
    length: int
    in_content: bool = False
    url: str | None = None


@dataclass(frozen=True)
class Edit:
    """Characters ``start`` to ``end`` of the extracted text were replaced by ``replacement`` for ``reason``."""

    start: int
    end: int
    replacement: str
    reason: str


@dataclass(frozen=True)
class Extraction:
    """The text made of a record. ``extractor`` names the program, its version and its settings."""

    text: str
    extractor: str
    license: str | None = None
    license_evidence: str | None = None
    lang: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Split:
    """A piece of a raw file that one worker reads: bytes ``start`` to ``end`` (``end`` None: to the end).

    A record belongs to the split in which its first byte lies.
    """

    file: str
    """Path below the source's folder, with forward slashes; the file's name where the source is one file."""
    start: int = 0
    end: int | None = None


class Reader(Protocol):
    """Records of one kind of file."""

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        """Byte ranges that can be read on their own; one range where the format cannot be cut."""

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        """Records that begin in the range, in order. Bad input becomes :class:`Refused`, never an exception."""


class Extractor(Protocol):
    """Text from a record."""

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        """The text, or why there is none. Must not raise on any content."""


def apply_edits(text: str, edits: list[Edit]) -> str:
    """``text`` with ``edits`` made; they must be in order and must not overlap.

    Raises:
        ValueError: edits overlap or lie outside the text.
    """
    parts: list[str] = []
    position = 0
    for edit in edits:
        if not position <= edit.start <= edit.end <= len(text):
            raise ValueError(
                f"edit {edit.start}-{edit.end} does not follow {position} in {len(text)} characters"
            )
        parts += [text[position : edit.start], edit.replacement]
        position = edit.end
    return "".join([*parts, text[position:]])
