"""The texts of a corpus artifact: all that training a tokenizer needs to know of it.

(:class:`arriero.data.corpus.Corpus` reads whole documents; this room lies above that one.)
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path


def corpus_file(folder: Path, split: str) -> Path:
    """Where a corpus artifact keeps the documents of a split."""
    return folder / f"{split}.jsonl.gz"


def iter_texts(folder: Path, split: str) -> Iterator[str]:
    """The text of every document of a split, in order."""
    with gzip.open(corpus_file(folder, split), "rb") as file:
        for line in file:
            yield json.loads(line)["text"]
