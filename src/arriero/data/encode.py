"""A corpus's files to token shards: one task a file, on any executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from arriero.artifacts.commit import write_bytes_atomic
from arriero.data.corpus import Corpus, file_documents
from arriero.data.execute.tasks import Counts, Task
from arriero.data.shard_writer import ShardWriter
from arriero.data.shards import SplitMeta
from arriero.tokenization.fast import FastEncoder, SlowEncoder, make_encoder
from arriero.tokenization.tokenizer import Tokenizer

WORTH_BYTES = 4 << 20
"""Below so much text neither worker processes nor the proof that tiktoken's ids are the tokenizer's pay."""


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

    @property
    def result(self) -> Path:
        """What is written when all shards of the file are there: their list."""
        return Path(self.state) / f"{self.label}.whole.json"


def encode_tasks(corpus: Corpus, tokenizer: Path, state: Path, shard_tokens: int, fast: bool) -> list[Task]:
    """A task for each file of a corpus, in its order."""
    tasks = []
    for split, files in corpus.files.items():
        for number, file in enumerate(files):
            label = split if len(files) == 1 else f"{split}-{number:05d}"
            job = EncodeJob(label, split, str(file), str(tokenizer), str(state), shard_tokens, fast)
            tasks.append(Task(label, job, file.stat().st_size))
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
    meta = writer.write(file_documents(Path(job.file)), tick)
    write_bytes_atomic(job.result, meta.model_dump_json().encode())
    return meta


def is_encoded(task: Task) -> bool:
    """Whether all shards of a task's file are there."""
    return bool(task.payload.result.exists())


def encoded(task: Task) -> SplitMeta:
    """The shards of a task's file."""
    return SplitMeta.model_validate_json(task.payload.result.read_bytes())


def choose_encoder(corpus: Corpus, tokenizer: Tokenizer, n_bytes: int) -> FastEncoder | SlowEncoder:
    """tiktoken where it is equal, also on the corpus's first documents, and worth its start."""
    if n_bytes < WORTH_BYTES:
        return SlowEncoder(tokenizer, "little text")
    return make_encoder(tokenizer, (document.text for document in corpus.iter_documents("train")))


@lru_cache(maxsize=2)
def _encoder(folder: str, fast: bool) -> tuple[Tokenizer, FastEncoder | SlowEncoder]:
    """Loaded once in a process."""
    tokenizer = Tokenizer.load(Path(folder))
    return tokenizer, FastEncoder(tokenizer) if fast else SlowEncoder(tokenizer)
