"""The texts of a corpus artifact: all that training a tokenizer needs to know of it.

(:class:`arriero.data.corpus.Corpus` reads whole documents; this room lies above that one.)
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from arriero.errors import ArrieroError, DamagedArtifactError
from arriero.tokenization.zstd import ZstdReader

_NAME = re.compile(r"(?P<split>[a-z]+)(?:-(?P<number>\d{5,}))?\.jsonl\.(?:gz|zst)")


def corpus_file(folder: Path, split: str) -> Path:
    """Where a corpus of one file for each split keeps its documents."""
    return folder / f"{split}.jsonl.gz"


def corpus_files(folder: Path, split: str) -> list[Path]:
    """The files of a split's documents, in order: ``train-00000.jsonl.zst`` and so on, or ``train.jsonl.gz`` alone.

    Empty when the folder has no such split.

    Raises:
        DamagedArtifactError: the numbers have a gap.
    """
    single: list[Path] = []
    numbered: dict[int, Path] = {}
    for path in Path(folder).glob(f"{split}*.jsonl.*"):
        match = _NAME.fullmatch(path.name)
        if match and match["split"] == split:
            if match["number"] is None:
                single.append(path)
            else:
                numbered[int(match["number"])] = path
    if sorted(numbered) != list(range(len(numbered))):
        gap = next(number for number in range(len(numbered)) if number not in numbered)
        raise DamagedArtifactError(f"{folder} lacks {split}-{gap:05d}.jsonl.zst; make the corpus anew")
    return [numbered[number] for number in sorted(numbered)] or sorted(single)


def iter_texts(folder: Path, split: str) -> Iterator[str]:
    """The text of every document of a split, in order.

    Raises:
        ArrieroError: the corpus has no such split.
        DamagedArtifactError: a file is cut short or is no corpus file.
    """
    files = corpus_files(folder, split)
    if not files:
        raise ArrieroError(f"{folder} holds no split '{split}' of a corpus")
    for path in files:
        yield from file_texts(path)


def file_texts(path: Path) -> Iterator[str]:
    """The text of every document of one file of a corpus, in order.

    Raises:
        DamagedArtifactError: it is cut short or is no corpus file.
    """
    with _open(path) as file:
        for line in file:
            try:
                yield json.loads(line)["text"]
            except (ValueError, KeyError, TypeError):
                raise DamagedArtifactError(
                    f"{path} holds a line that is no document; make the corpus anew"
                ) from None


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Decompressed bytes of a .gz or .zst file."""
    damage: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)
    try:
        if path.suffix == ".zst":
            import zstandard

            damage = (*damage, zstandard.ZstdError)
            with path.open("rb") as raw:
                yield io.BufferedReader(ZstdReader(raw, zstandard.ZstdDecompressor().decompressobj), 1 << 20)
        else:
            with gzip.open(path, "rb") as packed:
                yield io.BufferedReader(packed, 1 << 20)
    except damage as error:
        raise DamagedArtifactError(f"{path} is damaged or cut short: {error}") from None
