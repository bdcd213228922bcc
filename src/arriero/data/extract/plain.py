"""Text of records that are text already."""

from __future__ import annotations

from arriero.data.extract import ExtractSettings, refuse
from arriero.data.extract.encoding import decode_page
from arriero.data.readers.sources import Problem
from arriero.data.records import Extraction, Limits, Record, Refused

_NAME = "plain"


class PlainExtractor:
    """The record's text as it is; bytes are decoded, as a page's are."""

    def __init__(self, settings: ExtractSettings) -> None:
        del settings  # nothing about a plain text can be chosen

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        text: str | Problem
        if isinstance(record.content, str):
            text = record.content
        else:
            text = decode_page(record.content, str(record.meta.get("charset", "")))
        if isinstance(text, Problem):
            return refuse(record, *text)
        if "\0" in text:
            return refuse(record, "extract.nul", f"{text.count(chr(0))} NUL characters")
        if not text.strip():
            return refuse(record, "extract.empty", "the text is blank")
        return Extraction(text, _NAME)
