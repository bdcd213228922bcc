"""Text from records, by content type. One line in the table adds a kind of content."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from arriero.data.books.clean import BookSettings
from arriero.data.code.files import CodeFiles
from arriero.data.pdf.cleanup import PdfSettings
from arriero.data.records import Extraction, Extractor, Limits, Record, Refused
from arriero.data.stackexchange.render import QuestionTemplate

EXTRACTORS: dict[str, str] = {
    "text/plain": "arriero.data.extract.plain:PlainExtractor",
    "text/html": "arriero.data.extract.html:HtmlExtractor",
    "application/xhtml+xml": "arriero.data.extract.html:HtmlExtractor",
    "application/x-stackexchange-question": "arriero.data.extract.stackexchange:StackExchangeExtractor",
    "text/x-code": "arriero.data.extract.code:CodeExtractor",
    "text/x-book": "arriero.data.extract.books:BookExtractor",
    "application/pdf": "arriero.data.extract.pdf:PdfExtractor",
    "text/x-wiki": "arriero.data.extract.wikitext:WikitextExtractor",
    "application/x-tex": "arriero.data.extract.latex:LatexExtractor",
}
"""Content type: "module:Class". The class keeps :class:`arriero.data.records.Extractor` and is built with the
:class:`ExtractSettings`, once for all the content types that name it."""


class ExtractSettings(BaseModel):
    """How text is made of records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tier: Literal["resiliparse", "trafilatura", "union", "all_text"] = Field(
        default="resiliparse",
        description="HTML: main content by resiliparse (fast), by trafilatura (precise, several times slower), "
        "what either finds, or all visible text",
    )
    comments: bool = Field(default=False, description="HTML: keep readers' comments below an article")
    links: bool = Field(default=False, description="HTML: keep the targets of links in the text")
    trim: bool = Field(
        default=True,
        description="HTML: leave out the repeated headline, teasers, share buttons and picture credits that main content"
        " still holds",
    )
    latex_start: Literal["section", "abstract"] = Field(
        default="section", description="LaTeX: keep from the first section, or from the abstract before it"
    )
    latex_macros: bool = Field(
        default=True, description="LaTeX: replace the author's macros by what they stand for"
    )
    questions: QuestionTemplate = Field(
        default=QuestionTemplate(), description="Stack Exchange: the form of a question with its answers"
    )
    code: CodeFiles = Field(default=CodeFiles(), description="source code: which files are kept")
    books: BookSettings = Field(default=BookSettings(), description="books: what is cut out")
    pdf: PdfSettings = Field(default=PdfSettings(), description="PDF: bounds, and what is cut out")
    max_record_bytes: int = Field(
        default=Limits.record_bytes, ge=1024, description="most bytes of a record after decompression"
    )
    max_html_nodes: int = Field(default=Limits.html_nodes, ge=1, description="most tags of a page")
    max_html_depth: int = Field(
        default=Limits.html_depth, ge=8, description="deepest nesting of a page's tags"
    )
    max_seconds: float = Field(
        default=Limits.seconds, gt=0, description="most CPU seconds that one record's extraction may take"
    )
    max_expansion: int = Field(
        default=Limits.expansion, ge=2, description="most times that decompressing may enlarge a file"
    )

    def limits(self) -> Limits:
        """The bounds for readers and extractors."""
        return Limits(
            self.max_record_bytes,
            self.max_html_nodes,
            self.max_html_depth,
            self.max_seconds,
            self.max_expansion,
        )


class _ByContentType:
    """Gives a record to the extractor of its content type; extractors are built when first needed."""

    def __init__(self, settings: ExtractSettings) -> None:
        self._settings = settings
        self._built: dict[str, Extractor] = {}

    def extract(self, record: Record, limits: Limits) -> Extraction | Refused:
        name = EXTRACTORS.get(record.content_type)
        if name is None:
            what = record.content_type or "unnamed content"
            return refuse(record, "extract.content_type", f"no text is made of {what}")
        if name not in self._built:
            module, cls = name.split(":")
            build: Any = getattr(importlib.import_module(module), cls)
            self._built[name] = build(self._settings)
        return self._built[name].extract(record, limits)


def make_extractor(settings: ExtractSettings) -> Extractor:
    """The extractor for records of every known content type."""
    return _ByContentType(settings)


def refuse(record: Record, reason: str, detail: str) -> Refused:
    """A record that was read and gives no text: ``reason`` is ``extract.<what>``."""
    return Refused(record.id, reason, detail, record.offset, record.length, record.in_content, record.url)
