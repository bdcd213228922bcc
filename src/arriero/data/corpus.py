"""Reading a corpus artifact: documents by split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.documents import Document
from arriero.data.files import iter_lines
from arriero.data.jsonl import parse_line
from arriero.errors import ArrieroError, DamagedArtifactError, did_you_mean
from arriero.tokenization.texts import corpus_files

SPLITS = ("train", "validation")


class Corpus:
    """The folder of a corpus artifact: the files of every split (``train-00000.jsonl.zst`` ..., or ``train.jsonl.gz``
    alone)."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ArrieroError: there is no corpus.
        """
        self.folder = Path(folder)
        self.files = {split: found for split in SPLITS if (found := corpus_files(self.folder, split))}
        """Split -> its files, in order."""
        if SPLITS[0] not in self.files:
            raise ArrieroError(f"{folder} holds no corpus: it has no {SPLITS[0]}-00000.jsonl.zst")

    @property
    def splits(self) -> list[str]:
        """The splits that are there."""
        return list(self.files)

    def iter_documents(self, split: str) -> Iterator[Document]:
        """Documents of a split, in order.

        Raises:
            ArrieroError: no such split.
            DamagedArtifactError: a file is damaged.
        """
        if split not in self.files:
            raise ArrieroError(f"{self.folder} has no split '{split}'{did_you_mean(split, self.files)}")
        for path in self.files[split]:
            yield from file_documents(path)


def file_documents(path: Path) -> Iterator[Document]:
    """Documents of one file of a corpus, in order.

    Raises:
        ArrieroError: the file is damaged.
    """
    for line in iter_lines(path):
        record = parse_line(path, line)
        try:
            yield Document.of_record(record or {})
        except TypeError:
            raise DamagedArtifactError(
                f"{path} line {line.number} is no document; make the corpus anew"
            ) from None
