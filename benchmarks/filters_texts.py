"""Texts for ``filters_agreement.py`` from raw files: JSON lines, plain text, HTML pages and WARC files."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path


def _extracted(html: str) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    return str(extract_plain_text(html, main_content=True, alt_texts=False, links=False, comments=False))


def _pages(path: Path) -> Iterator[str]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    for record in ArchiveIterator(str(path), record_types=WarcRecordType.response, parse_http=True):
        if "html" in (record.http_content_type or ""):
            body = record.reader.read()
            yield _extracted(bytes_to_str(body, detect_encoding(body)))


def texts_of(path: Path) -> Iterator[str]:
    """The texts of one file: by its ending .jsonl (fields text, articleBody, html), .txt (cut into pieces of 3000
    characters), .html, .warc; each also .gz."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "warc":
        yield from _pages(path)
        return
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")
    if kind == "html":
        yield _extracted(text)
    elif kind == "jsonl":
        for line in filter(None, text.split("\n")):
            row = json.loads(line)
            yield from (row[name] for name in ("text", "articleBody") if name in row)
            if "html" in row:
                yield _extracted(row["html"])
    else:
        yield from _stretches(text)


def _stretches(text: str) -> Iterator[str]:
    """Pieces of at most 3000 characters that end at white space."""
    yield from re.findall(r"[\s\S]{1,3000}(?:\s|$)", text)


def files_of(paths: list[Path]) -> Iterator[Path]:
    """Files as given, and those below a folder, in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                p for p in path.rglob("*") if p.is_file() and p.suffix in (".html", ".jsonl", ".txt")
            )
        else:
            yield path


def damaged(text: str, seed: int) -> str:
    """A text as bad pages are: one of eight kinds of damage, which every filter knows one of."""
    draw = random.Random(seed)
    lines = [line for line in text.split("\n") if line.strip()]
    words = text.split()
    kind = seed % 8
    if kind == 0:  # said again and again
        return "\n\n".join(lines + draw.choices(lines, k=max(len(lines) // 2, 1)))
    if kind == 1:  # a list
        return "\n".join("- " + " ".join(words[i : i + 4]) for i in range(0, len(words), 4))
    if kind == 2:  # no line ends a sentence
        return "\n".join(line.rstrip(".!?\"'") for line in lines)
    if kind == 3:  # a table of figures
        return "\n".join(f"{line} {draw.randrange(10**6)} | {draw.random():.4f} #" for line in lines)
    if kind == 4:  # teasers
        return "\n".join(line[:60].rsplit(" ", 1)[0] + "..." for line in lines)
    if kind == 5:  # words without sentences
        return " ".join(word for word in words if len(word) > 4)
    if kind == 6:  # code among the text
        return text + "\n" + "\n".join(f"function f{i}() {{ return a[{i}] + {i * 7}; }}" for i in range(12))
    return " ".join(words[: draw.randrange(20, 80)])  # the beginning only
