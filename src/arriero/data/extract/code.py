"""The text of a file of source code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.data.code.files import CodeFiles, refusal_by_path, refusal_by_text
from arriero.data.code.headers import EXTRACTOR
from arriero.data.records import Extraction, Limits, Record, Refused

if TYPE_CHECKING:
    from arriero.data.extract import ExtractSettings

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class CodeExtractor:
    """Decodes a file that is wanted; refuses binary files, other encodings than UTF-8 (and UTF-16 with its mark), and
    what :class:`CodeFiles` leaves out. Licence headers are cut later, by an editor."""

    def __init__(self, settings: ExtractSettings | None = None, files: CodeFiles | None = None) -> None:
        self._files = files or (settings.code if settings else CodeFiles())

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        path = str(record.meta.get("path") or record.id)
        problem = refusal_by_path(path, len(record.content), self._files)
        if problem is None:
            text = record.content if isinstance(record.content, str) else _decoded(record.content)
            if isinstance(text, tuple):
                problem = text
            else:
                problem = refusal_by_text(text, self._files)
                if problem is None and not text.strip():
                    problem = ("extract.empty", "nothing but white space")
        if problem is not None:
            return Refused(record.id, *problem, record.offset, record.length, record.in_content, record.url)
        assert isinstance(text, str)
        return Extraction(text, f"{EXTRACTOR}1")


def _decoded(content: bytes) -> str | tuple[str, str]:
    """The text, or (reason, detail)."""
    try:
        if content.startswith(_UTF_16):
            return content.decode("utf-16").replace("\r\n", "\n")
        if b"\0" in content:
            return "extract.binary", f"a NUL at byte {content.index(0)}"
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        return "extract.encoding", f"byte {error.start} is not {error.encoding}"
