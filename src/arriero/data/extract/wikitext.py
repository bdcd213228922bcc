"""Text of Wikipedia's pages."""

from __future__ import annotations

from arriero.data.extract import ExtractSettings, refuse
from arriero.data.records import Extraction, Limits, Record, Refused
from arriero.data.wikitext.plain import plain_text

EXTRACTOR = "wikitext 1"


class WikitextExtractor:
    """Plain text of wikitext (``text/x-wiki``)."""

    def __init__(self, settings: ExtractSettings | None = None) -> None:
        """Nothing of the settings is used; it is built like the other extractors."""

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        """The page's prose. Refused: ``extract.too_large``, ``extract.empty``."""
        content = record.content
        if len(content) > limits.record_bytes:
            return refuse(record, "extract.too_large", f"{len(content)} bytes")
        source = content if isinstance(content, str) else content.decode("utf-8", errors="replace")
        text = plain_text(source)
        if not text:
            return refuse(record, "extract.empty", "the page has no prose")
        return Extraction(
            text, EXTRACTOR, record.license, record.license_evidence, record.lang, dict(record.meta)
        )
