"""Books: one record a text file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.records import Limits, Record, Refused
from arriero.data.sourcetree.unpack import ENDINGS, DamagedError, ExpansionError, unpacked
from arriero.errors import ArrieroError

CONTENT_TYPE = "text/x-book"


class BookReader:
    """Reads a text file (.txt, also .gz, .bz2, .xz, .zst) as one record."""

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        """One range: a book is not cut."""
        return [(0, None)]

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        """The file; refused when it is empty, too large or damaged."""
        if start > 0:
            return
        name, packed = path.name, path.suffix.lower() in ENDINGS
        try:
            with unpacked(path, limits.expansion) as file:
                content = file.read(limits.record_bytes + 1)
        except ExpansionError as error:
            yield Refused(name, "read.expansion", str(error), 0, 0, packed)
            return
        except (DamagedError, OSError, ArrieroError) as error:
            yield Refused(name, "read.damaged", str(error), 0, 0, packed)
            return
        if len(content) > limits.record_bytes:
            detail = f"more than {limits.record_bytes:,} bytes"
            yield Refused(name, "read.record_bytes", detail, 0, len(content), packed)
        elif not content.strip():
            yield Refused(name, "read.empty", "nothing but white space", 0, len(content), packed)
        else:
            yield Record(name, content, CONTENT_TYPE, 0, len(content), packed)
