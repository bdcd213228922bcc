"""PDF: one record a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.records import Limits, Record, Refused

CONTENT_TYPE = "application/pdf"
_SIGNATURE_WITHIN = 1024


class PdfReader:
    """Reads a PDF file's bytes; what they mean is the extractor's business."""

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        """One range: a PDF is not cut."""
        return [(0, None)]

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        """The file; refused when it is too large or does not begin as a PDF does."""
        if start > 0:
            return
        try:
            with path.open("rb") as file:
                content = file.read(limits.record_bytes + 1)
        except OSError as error:
            yield Refused(path.name, "read.damaged", str(error), 0, 0)
            return
        if len(content) > limits.record_bytes:
            yield Refused(
                path.name, "read.record_bytes", f"more than {limits.record_bytes:,} bytes", 0, len(content)
            )
        elif b"%PDF-" not in content[:_SIGNATURE_WITHIN]:
            yield Refused(path.name, "read.not_pdf", "no %PDF- at its beginning", 0, len(content))
        else:
            yield Record(path.name, content, CONTENT_TYPE, 0, len(content))
