"""Readers of raw files, found by format or by the file's ending. One line in two tables adds a format."""

from __future__ import annotations

import glob
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


def source_files(path: Path, format: str = "auto") -> list[Path]:
    """The files that a source's path names, in the order of their names: one file, a folder's files or a pattern's.

    Of a folder or pattern, hidden files and symbolic links are left aside, and with ``auto`` files whose ending says no
    format. A format whose reader takes whole folders gets the folder itself.

    Raises:
        ArrieroError: nothing is there, or no file is left.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        if format != "auto" and getattr(reader_class(format), "folders", False):
            return [path]
        found = _below(path)
    elif glob.has_magic(str(path)):
        found = _matching(path)
    else:
        raise ArrieroError(f"there is no file {path}")
    if format == "auto":
        found = [file for file in found if format_of(file) is not None]
    if not found:
        raise ArrieroError(f"{path} has no files{' of a known format' if format == 'auto' else ''}")
    return sorted(found, key=lambda file: file.as_posix())


def _matching(pattern: Path) -> list[Path]:
    """Files that a pattern names; ``**`` stands for any folders. Unlike glob it does not walk through links."""
    parts = pattern.parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    return [file for file in _below(root) if _fits(file.relative_to(root).parts, parts[fixed:])]


def _fits(names: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_fits(names[skipped:], patterns[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def _below(folder: Path) -> list[Path]:
    files: list[Path] = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            files += _below(entry)
        elif entry.is_file():
            files.append(entry)
    return files
