"""Files that are one page each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.readers.sources import FileSource, Problem, content_blocks
from arriero.data.records import Limits, Record, Refused


class HtmlFileReader:
    """One HTML file is one record; .gz and .zst are unpacked."""

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        return [(0, None)]

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        if start > 0:
            return
        with FileSource(path) as source:
            content = whole_content(source, limits)
            id = f"{path.name}:0"
            if isinstance(content, Problem):
                yield Refused(id, *content, 0, source.size)
            else:
                yield Record(id, content, "text/html", 0, source.size)


def whole_content(source: FileSource, limits: Limits) -> bytes | Problem:
    """All of a file's content, or why not."""
    parts, size = [], 0
    for block in content_blocks(source, limits):
        if isinstance(block, Problem):
            return block
        size += len(block)
        if size > limits.record_bytes:
            return Problem("read.too_large", f"the file has more than {limits.record_bytes} bytes")
        parts.append(block)
    return b"".join(parts)
