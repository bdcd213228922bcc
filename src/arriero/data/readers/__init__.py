"""Readers of raw files, found by format or by the file's ending. One line in two tables adds a format."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from arriero.data.records import Reader
from arriero.errors import ArrieroError, did_you_mean

READERS: dict[str, str] = {
    "jsonl": "arriero.data.readers.lines:JsonLinesReader",
    "text": "arriero.data.readers.lines:TextReader",
    "parquet": "arriero.data.readers.parquet:ParquetReader",
    "warc": "arriero.data.readers.warc:WarcReader",
    "wet": "arriero.data.readers.warc:WarcReader",
    "html": "arriero.data.readers.html:HtmlFileReader",
    "archive": "arriero.data.readers.archives:ArchiveReader",
    "stackexchange": "arriero.data.readers.stackexchange:StackExchangeReader",
    "code": "arriero.data.readers.code:CodeReader",
    "book": "arriero.data.readers.books:BookReader",
    "pdf": "arriero.data.readers.pdf:PdfReader",
    "wikipedia": "arriero.data.readers.wikipedia:WikipediaReader",
    "arxiv": "arriero.data.readers.arxiv:ArxivReader",
}
"""Format: "module:Class". The class keeps :class:`arriero.data.records.Reader`; of a source's options it is given those
that its constructor names, all of which have defaults. A class with ``folders = True`` is given a folder as it is."""

ENDINGS: tuple[tuple[str, str], ...] = (
    ("*.jsonl", "jsonl"),
    ("*.ndjson", "jsonl"),
    ("*.txt", "text"),
    ("*.text", "text"),
    ("*.md", "text"),
    ("*.parquet", "parquet"),
    ("*.warc.wet", "wet"),
    ("*.wet", "wet"),
    ("*.warc", "warc"),
    ("*.html", "html"),
    ("*.htm", "html"),
    ("*.xhtml", "html"),
    ("*wiki*-pages-articles*.xml", "wikipedia"),
    ("arxiv_src_*.tar", "arxiv"),
    ("*.tex", "arxiv"),
    ("*.pdf", "pdf"),
    ("posts.xml", "stackexchange"),
    ("*.zip", "archive"),
    ("*.tar", "archive"),
    ("*.tgz", "archive"),
)
"""(pattern of the file's name in lower case without .gz, .zst and .bz2, format): the first that fits decides."""

COMPRESSION = (".gz", ".zst", ".bz2")


def format_of(path: Path) -> str | None:
    """The format that a file's name says, or None."""
    name = path.name.lower()
    for ending in COMPRESSION:
        name = name.removesuffix(ending)
    return next((format for pattern, format in ENDINGS if fnmatch(name, pattern)), None)


def resolve_format(path: Path, format: str = "auto") -> str:
    """``format`` itself, or for ``auto`` what the file's name says.

    Raises:
        ArrieroError: the name says nothing, or there is no such format.
    """
    if format == "auto":
        found = format_of(path)
        if found is None:
            raise ArrieroError(
                f"the ending of {path.name} does not say its format; set format to one of {', '.join(READERS)}"
            )
        return found
    if format not in READERS:
        raise ArrieroError(f"there is no format '{format}'{did_you_mean(format, READERS)}")
    return format


def reader_class(format: str) -> type[Any]:
    """The class that reads a format; its module is imported now.

    Raises:
        ArrieroError: there is no such format.
    """
    module, name = READERS[resolve_format(Path(), format)].split(":")
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found


def reader_for(path: Path, format: str = "auto", options: Mapping[str, Any] | None = None) -> Reader:
    """A reader for a file. Of ``options`` (a source's settings) it takes those that its constructor names.

    Raises:
        ArrieroError: the format is unknown, or an option makes no sense.
    """
    found = reader_class(resolve_format(path, format))
    named = inspect.signature(found).parameters
    reader: Reader = found(**{key: value for key, value in (options or {}).items() if key in named})
    return reader
