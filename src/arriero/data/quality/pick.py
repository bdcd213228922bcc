"""The documents of a corpus's files, each as often as its figure says.

Copies are taken pass by pass: first all documents that are taken of all files, then those that are taken twice, and so on.
So two copies of a document lie a pass apart, and no packed window holds both but in the smallest of corpora.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arriero.data.corpus import file_documents
from arriero.data.documents import Document
from arriero.data.quality.account import BucketAccount, QualityAccount
from arriero.data.quality.copies import copies
from arriero.data.quality.figures import LedgerFigures, column_of, first_parts, ledger_parts
from arriero.data.quality.settings import QualitySettings


@dataclass(frozen=True)
class PickJob:
    """One pass over one file: what a worker has to know."""

    file: str
    number: int
    """Of the file in its split."""
    copy: int
    """Which copies this pass takes, from 0."""
    settings: QualitySettings
    seed: int
    corpus: str
    column: str
    first: str
    """The part of the ledger that holds the file's first document."""


@dataclass(frozen=True)
class Picked:
    """A document of the file, and which of its copies this is, from 0."""

    document: Document
    bucket: int
    copy: int
    copies: int


def pick_jobs(settings: QualitySettings, seed: int, corpus: Path, files: Sequence[Path]) -> list[PickJob]:
    """All passes over all files of the split, in the order in which their tokens lie; files without documents have none.

    Raises:
        ArrieroError: the corpus has no ledger, or its ledger not the figure.
    """
    column = column_of(ledger_parts(corpus)[0], settings.figure)
    firsts = first_parts(corpus, files)
    return [
        PickJob(str(file), number, copy, settings, seed, str(corpus), column, first)
        for copy in range(settings.passes)
        for number, (file, first) in enumerate(zip(files, firsts, strict=True))
        if first is not None
    ]


class Picker:
    """Does one pass, and counts what it takes."""

    def __init__(self, job: PickJob) -> None:
        self._job = job
        n = len(job.settings.epochs)
        self._documents, self._left_out, self._bytes = [0] * n, [0] * n, [0] * n
        self._buckets = array("B")

    def picked(self) -> Iterator[Picked]:
        """The copies of this pass, in the file's order; once."""
        job = self._job
        epochs = job.settings.epochs
        figures = LedgerFigures(Path(job.corpus), job.column, job.first)
        for document in file_documents(Path(job.file)):
            bucket = job.settings.bucket_of(figures.figure(document.id))
            n = copies(document.id, epochs[bucket], job.seed)
            if not job.copy:  # each document counts once
                self._documents[bucket] += 1
                self._left_out[bucket] += not n
                self._bytes[bucket] += len(document.text.encode())
            if job.copy < n:
                self._buckets.append(bucket)
                yield Picked(document, bucket, job.copy, n)

    def documents(self) -> Iterator[Document]:
        """The same without the circumstances."""
        return (picked.document for picked in self.picked())

    def account(self, tokens: Sequence[int]) -> QualityAccount:
        """What was taken, once :meth:`picked` is at its end.

        Args:
            tokens: of each copy in order, BOS and EOS counted.
        """
        settings = self._job.settings
        unique, repeated, written = ([0] * len(settings.epochs) for _ in range(3))
        for bucket, size in zip(self._buckets, tokens, strict=True):
            written[bucket] += 1
            (repeated if self._job.copy else unique)[bucket] += size
        return QualityAccount(
            figure=settings.figure,
            buckets=[
                BucketAccount(
                    label=label, epochs=settings.epochs[n], documents=self._documents[n], bytes=self._bytes[n],
                    left_out=self._left_out[n], written=written[n], unique_tokens=unique[n],
                    repeated_tokens=repeated[n],
                )
                for n, label in enumerate(settings.labels)
            ],
        )  # fmt: skip
