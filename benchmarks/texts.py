"""Documents of text files, for the benchmarks that take text."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

ENDINGS = (".txt", ".txt.gz")


def files(path: Path) -> list[Path]:
    """The text files of a folder, in order of name; a file is itself."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.name.endswith(ENDINGS) and file.is_file())
    if not found:
        raise SystemExit(f"{path} holds no text: files that end in {' or '.join(ENDINGS)} are read")
    return found


def documents(path: Path) -> Iterator[str]:
    """What stands between empty lines."""
    for file in files(path):
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
        yield from (part for part in text.split("\n\n") if part.strip())
