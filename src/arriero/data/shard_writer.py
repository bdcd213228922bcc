"""Documents to token shards, resumable shard by shard."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import write_bytes_atomic
from arriero.data.documents import Document
from arriero.data.shards import ShardMeta, SplitMeta, TokensMeta, index_file, token_type
from arriero.tokenization.tokenizer import Tokenizer

BATCH_BYTES = 1 << 20
"""Text that is encoded at a time."""


class ShardWriter:
    """Encodes one split. Whole shards lie in ``state`` with a list of them, which is written after them."""

    def __init__(self, state: Path, split: str, tokenizer: Tokenizer, shard_tokens: int) -> None:
        self._state = state
        self._split = split
        self._tokenizer = tokenizer
        self._limit = shard_tokens
        self._dtype = np.dtype(token_type(tokenizer.vocab_size)).newbyteorder("<")
        self._list = state / f"{split}.json"
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
            for document, ids in zip(
                batch, self._tokenizer.encode_batch([d.text for d in batch]), strict=True
            ):
                size = len(document.text.encode())
                self._add(ids, size)
                n_bytes += size
        self._end_shard()
        return SplitMeta(shards=self._shards)

    def _add(self, ids: list[int], n_bytes: int) -> None:
        length = len(ids) + 2
        if self._starts[-1] and self._starts[-1] + length > self._limit:
            self._end_shard()
        self._ids.append(np.array([self._tokenizer.bos_id, *ids, self._tokenizer.eos_id], self._dtype))
        self._starts.append(self._starts[-1] + length)
        self._bytes += n_bytes

    def _start_shard(self) -> None:
        self._ids: list[NDArray[np.unsignedinteger]] = []
        self._starts = [0]
        self._bytes = 0

    def _end_shard(self) -> None:
        if not self._ids:
            return
        name = f"tokens-{self._split}-{len(self._shards):05d}.bin"
        write_bytes_atomic(self._state / name, np.concatenate(self._ids).tobytes())
        write_bytes_atomic(self._state / index_file(name), np.array(self._starts, "<u8").tobytes())
        shard = ShardMeta(file=name, documents=len(self._ids), tokens=self._starts[-1], bytes=self._bytes)
        self._shards = [*self._shards, shard]
        write_bytes_atomic(self._list, SplitMeta(shards=self._shards).model_dump_json().encode())
        self._start_shard()


def publish(state: Path, folder: Path, meta: TokensMeta) -> None:
    """Put the finished shards into the artifact's folder. They stay in ``state`` too (as links where the file
    system has them), so a kill between here and the commit costs nothing."""
    for split in meta.splits.values():
        for shard in split.shards:
            for name in (shard.file, index_file(shard.file)):
                try:
                    os.link(state / name, folder / name)
                except OSError:
                    shutil.copyfile(state / name, folder / name)


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
