"""Reading a corpus artifact: documents by split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from arriero.data.documents import Document
from arriero.data.files import iter_lines
from arriero.data.jsonl import parse_line
from arriero.errors import ArrieroError, DamagedArtifactError, did_you_mean
from arriero.tokenization.texts import corpus_file

SPLITS = ("train", "validation")
DROPPED_FILE = "dropped.jsonl.gz"


class Corpus:
    """The folder of a corpus artifact: ``<split>.jsonl.gz`` for every split, and the record of what was dropped."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ArrieroError: there is no corpus.
        """
        self.folder = Path(folder)
        self.splits = [split for split in SPLITS if corpus_file(self.folder, split).is_file()]
        if not self.splits:
            raise ArrieroError(
                f"{folder} holds no corpus: it has no {corpus_file(self.folder, SPLITS[0]).name}"
            )

    def iter_documents(self, split: str) -> Iterator[Document]:
        """Documents of a split, in order.

        Raises:
            ArrieroError: no such split.
            DamagedArtifactError: the file is damaged.
        """
        if split not in self.splits:
            raise ArrieroError(f"{self.folder} has no split '{split}'{did_you_mean(split, self.splits)}")
        path = corpus_file(self.folder, split)
        for line in iter_lines(path):
            record = parse_line(path, line)
            try:
                yield Document.of_record(record or {})
            except TypeError:
                raise DamagedArtifactError(
                    f"{path} line {line.number} is no document; make the corpus anew"
                ) from None

    def iter_dropped(self) -> Iterator[dict[str, object]]:
        """What curation dropped: id, source, reason, value, threshold, survivor, text (its beginning)."""
        for line in iter_lines(self.folder / DROPPED_FILE):
            yield json.loads(line.data)
