"""The text of a PDF file."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from arriero.data.pdf.cleanup import PdfSettings, pages_text
from arriero.data.pdf.worker import PdfWorker
from arriero.data.records import Extraction, Limits, Record, Refused
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.data.extract import ExtractSettings


class PdfExtractor:
    """Text by pypdf, in a child process with bounds on time and memory; running heads cut, lines joined."""

    def __init__(self, settings: ExtractSettings | None = None, pdf: PdfSettings | None = None) -> None:
        """
        Raises:
            ArrieroError: the package pypdf is not installed.
        """
        found = importlib.util.find_spec("pypdf")
        if found is None:
            raise ArrieroError(
                "reading PDF files needs the package pypdf: install it with pip install 'arriero[data]'"
            )
        self._settings = pdf or (settings.pdf if settings else PdfSettings())
        self._worker = PdfWorker(
            self._settings.max_memory_mib << 20, self._settings.max_pages, self._settings.max_characters
        )

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        content = record.content.encode() if isinstance(record.content, str) else record.content
        answer = self._worker.ask(content, self._settings.max_seconds)
        if "pages" not in answer:
            return _refuse(record, answer["reason"], answer["detail"])
        text = pages_text(answer["pages"], self._settings)
        if not text.strip():
            return _refuse(record, "extract.empty", f"no text on {answer['count']} pages (a scan?)")
        return Extraction(text, f"pypdf {_version()}", meta={"pages": answer["count"]})

    def close(self) -> None:
        """End the child process; the next file starts another."""
        self._worker.close()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pypdf")
    except PackageNotFoundError:
        return "unknown"


def _refuse(record: Record, reason: str, detail: str) -> Refused:
    return Refused(record.id, reason, detail, record.offset, record.length, record.in_content, record.url)
