"""The text of a book without what its transcribers put around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.data.books.clean import BookSettings, clean_book
from arriero.data.books.gutenberg import Frame, frame
from arriero.data.records import Extraction, Limits, Record, Refused

if TYPE_CHECKING:
    from arriero.data.extract import ExtractSettings

_LANGUAGES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "finnish": "fi", "swedish": "sv", "danish": "da", "norwegian": "no", "latin": "la",
    "greek": "el", "russian": "ru", "polish": "pl", "hungarian": "hu", "czech": "cs", "chinese": "zh",
    "japanese": "ja", "esperanto": "eo", "catalan": "ca", "welsh": "cy", "icelandic": "is", "tagalog": "tl",
}  # fmt: skip


class BookExtractor:
    """Decodes a book (UTF-8, UTF-16 with its mark, else Windows-1252, which older books are in) and cuts what
    :class:`BookSettings` names."""

    def __init__(self, settings: ExtractSettings | None = None, book: BookSettings | None = None) -> None:
        self._settings = book or (settings.books if settings else BookSettings())

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        text = record.content if isinstance(record.content, str) else _decoded(record.content)
        if text is None:
            return _refuse(record, "extract.binary", "NUL bytes: not a text")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        found = frame(text) if self._settings.gutenberg else Frame(0, len(text))
        body = clean_book(text[found.start : found.end], self._settings)
        if len(body) < self._settings.min_characters or not body.strip():
            return _refuse(record, "extract.empty", f"{len(body)} characters besides header and footer")
        return Extraction(
            body,
            "books 1" + (" gutenberg" if found.found else ""),
            *_license(found),
            lang=_LANGUAGES.get(found.fields.get("language", "").lower()),
            meta=_meta(found, text),
        )


def _license(found: Frame) -> tuple[str | None, str | None]:
    if not found.found:
        return None, None
    if found.is_copyrighted:
        return (
            "LicenseRef-Gutenberg-copyrighted",
            "text: Project Gutenberg's header says the book is copyrighted",
        )
    return "LicenseRef-public-domain", "text: Project Gutenberg's frame (public domain in the USA)"


def _meta(found: Frame, text: str) -> dict[str, object]:
    if not found.found:
        return {}
    meta: dict[str, object] = dict(found.fields)
    for key in meta.keys() - {"title", "author", "release date"}:
        del meta[key]
    return meta | {"header_characters": found.start, "footer_characters": len(text) - found.end}


def _decoded(content: bytes) -> str | None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _refuse(record: Record, reason: str, detail: str) -> Refused:
    return Refused(record.id, reason, detail, record.offset, record.length, record.in_content, record.url)
