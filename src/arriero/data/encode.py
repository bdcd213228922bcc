"""A corpus's files to token shards: one task a file, on any executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from arriero.artifacts.commit import write_bytes_atomic
from arriero.data.corpus import SPLITS, Corpus, file_documents
from arriero.data.execute.tasks import Counts, Task
from arriero.data.quality.account import QualityAccount
from arriero.data.quality.pick import Picker, PickJob
from arriero.data.shard_writer import ShardWriter
from arriero.data.shards import SplitMeta, index_file
from arriero.tokenization.fast import FastEncoder, SlowEncoder, make_encoder
from arriero.tokenization.tokenizer import Tokenizer

TIKTOKEN_WORTH_BYTES = 4 << 20
"""Below so much text the proof that tiktoken's ids are the tokenizer's does not pay."""


@dataclass(frozen=True)
class EncodeJob:
    """One file of a corpus; small enough to be sent to another process."""

    label: str
    split: str
    file: str
    tokenizer: str
    """Folder of the tokenizer."""
    state: str
    shard_tokens: int
    fast: bool
    """Whether to encode by tiktoken, which was found to be equal."""
    pick: PickJob | None = None
    """How often to take each document; None: once."""

    @property
    def result(self) -> Path:
        """What is written when all shards of the file are there: their list."""
        return Path(self.state) / f"{self.label}.whole.json"

    @property
    def account(self) -> Path:
        """What was taken how often, where documents are weighted."""
        return Path(self.state) / f"{self.label}.quality.json"


def encode_tasks(
    corpus: Corpus,
    tokenizer: Path,
    state: Path,
    shard_tokens: int,
    fast: bool,
    picks: Sequence[PickJob] | None = None,
) -> list[Task]:
    """A task for each file of a corpus, in its order.

    Args:
        picks: the passes over the files of the training split, a task each; None: one pass that takes all documents.
    """
    tasks = []

    def add(label: str, split: str, file: Path, pick: PickJob | None = None) -> None:
        job = EncodeJob(label, split, str(file), str(tokenizer), str(state), shard_tokens, fast, pick)
        tasks.append(Task(label, job, file.stat().st_size))

    for split, files in corpus.files.items():
        if picks is not None and split == SPLITS[0]:
            for pick in picks:
                add(f"{split}-{pick.number:05d}-{pick.copy:02d}", split, Path(pick.file), pick)
            continue
        for number, file in enumerate(files):
            add(split if len(files) == 1 else f"{split}-{number:05d}", split, file)
    return tasks


def encode_file(task: Task) -> Counts:
    """The task: encode a file."""
    documents = encode(task.payload, lambda n_bytes: None).documents
    return Counts(documents, documents)


def encode(job: EncodeJob, tick: Callable[[int], None]) -> SplitMeta:
    """Encode a file; a run that was killed goes on after the last whole shard.

    ``tick`` is called with the bytes of text so far, and may raise to stop.
    """
    tokenizer, encoder = _encoder(job.tokenizer, job.fast)
    writer = ShardWriter(Path(job.state), job.label, tokenizer, job.shard_tokens, encoder)
    picker = None if job.pick is None else Picker(job.pick)
    meta = writer.write(file_documents(Path(job.file)) if picker is None else picker.documents(), tick)
    if picker is not None:
        account = picker.account(_document_tokens(Path(job.state), meta))
        write_bytes_atomic(job.account, account.model_dump_json().encode())
    write_bytes_atomic(job.result, meta.model_dump_json().encode())
    return meta


def is_encoded(task: Task) -> bool:
    """Whether all shards of a task's file are there."""
    return bool(task.payload.result.exists())


def encoded(task: Task) -> SplitMeta:
    """The shards of a task's file."""
    return SplitMeta.model_validate_json(task.payload.result.read_bytes())


def quality_accounts(tasks: Sequence[Task]) -> list[QualityAccount]:
    """What was taken how often of each file whose documents are weighted."""
    jobs = [task.payload for task in tasks if task.payload.pick is not None]
    return [QualityAccount.model_validate_json(job.account.read_bytes()) for job in jobs]


def _document_tokens(state: Path, meta: SplitMeta) -> list[int]:
    """Tokens of each document in a file's shards, in order."""
    starts = [np.fromfile(state / index_file(shard.file), "<u8").astype(np.int64) for shard in meta.shards]
    return [int(size) for one in starts for size in np.diff(one)]


def choose_encoder(corpus: Corpus, tokenizer: Tokenizer, n_bytes: int) -> FastEncoder | SlowEncoder:
    """tiktoken where it is equal, also on the corpus's first documents, and worth its start."""
    if n_bytes < TIKTOKEN_WORTH_BYTES:
        return SlowEncoder(tokenizer, "little text")
    return make_encoder(tokenizer, (document.text for document in corpus.iter_documents("train")))


@lru_cache(maxsize=2)
def _encoder(folder: str, fast: bool) -> tuple[Tokenizer, FastEncoder | SlowEncoder]:
    """Loaded once in a process."""
    tokenizer = Tokenizer.load(Path(folder))
    return tokenizer, FastEncoder(tokenizer) if fast else SlowEncoder(tokenizer)
