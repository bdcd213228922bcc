"""Documents to token shards, resumable shard by shard."""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from arriero.artifacts.commit import write_bytes_atomic
from arriero.data.documents import Document
from arriero.data.shards import ShardMeta, SplitMeta, TokensMeta, index_file, token_type
from arriero.tokenization.fast import FastEncoder, SlowEncoder
from arriero.tokenization.tokenizer import Tokenizer

BATCH_BYTES = 1 << 20
"""Text that is encoded at a time."""


class ShardWriter:
    """Encodes one split, or one file of it. Whole shards lie in ``state`` with a list of them, which is written after
    them.

    Args:
        label: the split's name, or that of a file of it: part of the shards' names.
        encoder: what encodes; by default the tokenizer itself.
    """

    def __init__(
        self,
        state: Path,
        label: str,
        tokenizer: Tokenizer,
        shard_tokens: int,
        encoder: FastEncoder | SlowEncoder | None = None,
    ) -> None:
        self._state = state
        self._label = label
        self._bos_eos = tokenizer.bos_id, tokenizer.eos_id
        self._encode_batch = (encoder or tokenizer).encode_batch
        self._limit = shard_tokens
        self._dtype = np.dtype(token_type(tokenizer.vocab_size)).newbyteorder("<")
        self._list = state / f"{label}.json"
        self._shards = _finished(self._list)
        self._start_shard()

    def write(self, documents: Iterator[Document], tick: Callable[[int], None]) -> SplitMeta:
        """Encode all documents; those in finished shards are passed over.

        ``tick`` is called with the bytes of text written so far, and may raise to stop.
        """
        done = SplitMeta(shards=self._shards)
        n_bytes = done.bytes
        for batch in _batches(islice(documents, done.documents, None)):
            tick(n_bytes)
            for document, ids in zip(batch, self._encode_batch([d.text for d in batch]), strict=True):
                size = len(document.text.encode())
                self._add(ids, size)
                n_bytes += size
        self._end_shard()
        return SplitMeta(shards=self._shards)

    def _add(self, ids: list[int], n_bytes: int) -> None:
        length = len(ids) + 2
        if self._starts[-1] and self._starts[-1] + length > self._limit:
            self._end_shard()
        bos, eos = self._bos_eos
        self._ids.append(bos)
        self._ids.extend(ids)
        self._ids.append(eos)
        self._starts.append(self._starts[-1] + length)
        self._bytes += n_bytes

    def _start_shard(self) -> None:
        self._ids = array("I")
        self._starts = array("Q", [0])
        self._bytes = 0

    def _end_shard(self) -> None:
        if not self._ids:
            return
        name = f"tokens-{self._label}-{len(self._shards):05d}.bin"
        ids = np.frombuffer(self._ids, np.uintc).astype(self._dtype)
        write_bytes_atomic(self._state / name, ids.tobytes())
        write_bytes_atomic(self._state / index_file(name), np.array(self._starts, "<u8").tobytes())
        documents = len(self._starts) - 1
        shard = ShardMeta(file=name, documents=documents, tokens=self._starts[-1], bytes=self._bytes)
        self._shards = [*self._shards, shard]
        write_bytes_atomic(self._list, SplitMeta(shards=self._shards).model_dump_json().encode())
        self._start_shard()


def publish(state: Path, folder: Path, meta: TokensMeta) -> None:
    """Put the finished shards into the artifact's folder under their own names; see :func:`gather`."""
    for split in meta.splits.values():
        for shard in split.shards:
            _link(state, shard.file, folder, shard.file)


def gather(state: Path, folder: Path, split: str, files: Sequence[SplitMeta]) -> SplitMeta:
    """Put the shards of a split's files into the artifact's folder, numbered through.

    They stay in ``state`` too (as links where the file system has them), so a kill between here and the commit costs
    nothing.
    """
    shards: list[ShardMeta] = []
    for shard in (shard for file in files for shard in file.shards):
        name = f"tokens-{split}-{len(shards):05d}.bin"
        _link(state, shard.file, folder, name)
        shards.append(shard.model_copy(update={"file": name}))
    return SplitMeta(shards=shards)


def _link(state: Path, shard: str, folder: Path, name: str) -> None:
    for old, new in ((shard, name), (index_file(shard), index_file(name))):
        try:
            os.link(state / old, folder / new)
        except OSError:
            shutil.copyfile(state / old, folder / new)


def _finished(path: Path) -> list[ShardMeta]:
    try:
        return SplitMeta.model_validate_json(path.read_bytes()).shards
    except FileNotFoundError:
        return []


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
