"""Token shards on disk and the packed windows that training reads from them.

A split is a row of files ``tokens-<split>-00000.bin`` (little-endian uint16 or uint32, documents one after the other,
each ``BOS ... EOS``) with ``.idx`` beside each (little-endian uint64: where each document starts in its file,
and the file's token count last). ``tokens.json`` says what they must look like.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from arriero.errors import ArrieroError, DamagedArtifactError, did_you_mean

META_FILE = "tokens.json"
TokenType = Literal["uint16", "uint32"]
_INDEX_BYTES = 8


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardMeta(_Part):
    """One ``.bin`` with its ``.idx``; ``bytes`` counts the UTF-8 bytes of the texts."""

    file: str
    documents: int
    tokens: int
    bytes: int


class SplitMeta(_Part):
    shards: list[ShardMeta]

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(shard.bytes for shard in self.shards)


class MixedSourceMeta(_Part):
    """One source of a mixture: its share of the samples, and its own shards."""

    share: float
    splits: dict[str, SplitMeta]


class TokensMeta(_Part):
    """`tokens.json`."""

    format: Literal["arriero.tokens/1"] = "arriero.tokens/1"
    dtype: TokenType
    vocab_size: int
    tokenizer: str
    """Fingerprint of the tokenizer that made the ids."""
    bos_id: int
    eos_id: int
    splits: dict[str, SplitMeta]
    mixture: dict[str, MixedSourceMeta] = {}
    """Sources by name, of a mixture; ``splits`` then holds the shards of all of them."""
    pass_epochs: float = 1.0
    """How often one pass over a mixture takes its tokens, on the average."""


def token_type(vocab_size: int) -> TokenType:
    """The smallest type that holds every id."""
    return "uint16" if vocab_size < 1 << 16 else "uint32"


def read_meta(folder: Path) -> TokensMeta:
    """`tokens.json` of a tokens artifact.

    Raises:
        ArrieroError: the folder holds no token shards, or the file cannot be understood.
    """
    path = Path(folder) / META_FILE
    try:
        return TokensMeta.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArrieroError(f"{folder} holds no token shards: it has no {META_FILE}") from None
    except (ValidationError, json.JSONDecodeError):
        raise DamagedArtifactError(f"{path} cannot be read; make the tokens anew") from None


def index_file(shard_file: str) -> str:
    """Name of the ``.idx`` beside a ``.bin``."""
    return shard_file.removesuffix(".bin") + ".idx"


class TokenShards:
    """One split, memory-mapped: nothing is read until it is asked for."""

    def __init__(self, folder: Path, meta: SplitMeta, dtype: TokenType) -> None:
        self._meta = meta
        little = np.dtype(dtype).newbyteorder("<")
        self._files = [_map(folder / shard.file, little, shard.tokens) for shard in meta.shards]
        self._starts = np.cumsum([0, *(shard.tokens for shard in meta.shards)])
        self.documents_starts = self._document_starts(folder)
        """int64[n_documents + 1]: first token of each document in the split, and the token count last."""

    @classmethod
    def open(cls, folder: Path, split: str) -> TokenShards:
        """The split of a tokens artifact.

        Raises:
            ArrieroError: no shards there, or no such split.
            DamagedArtifactError: a shard is missing or cut short.
        """
        meta = read_meta(folder)
        if split not in meta.splits:
            raise ArrieroError(f"{folder} has no split '{split}'{did_you_mean(split, meta.splits)}")
        return cls(Path(folder), meta.splits[split], meta.dtype)

    @property
    def scored_per_byte(self) -> float:
        """Tokens that can be told from those before them (all but each document's first) for a byte of text."""
        return (self.n_tokens - self.n_documents) / max(1, self.bytes)

    @property
    def n_tokens(self) -> int:
        return self._meta.tokens

    @property
    def n_documents(self) -> int:
        return self._meta.documents

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the texts that the tokens stand for."""
        return self._meta.bytes

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """int64[stop - start]: the tokens from ``start`` up to ``stop`` of the split, over shard borders."""
        if not 0 <= start <= stop <= self.n_tokens:
            raise IndexError(f"tokens {start}:{stop} of {self.n_tokens}")
        first = int(np.searchsorted(self._starts, start, "right")) - 1
        parts = []
        for number in range(max(first, 0), len(self._files)):
            base = int(self._starts[number])
            if base >= stop:
                break
            parts.append(self._files[number][max(start - base, 0) : stop - base])
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)

    def document(self, index: int) -> NDArray[np.int64]:
        """int64[n]: the tokens of one document, BOS and EOS included."""
        if not 0 <= index < self.n_documents:
            raise IndexError(f"document {index} of {self.n_documents}")
        return self.tokens(int(self.documents_starts[index]), int(self.documents_starts[index + 1]))

    def _document_starts(self, folder: Path) -> NDArray[np.int64]:
        parts = [np.zeros(1, np.int64)] if not self._meta.shards else []
        for number, shard in enumerate(self._meta.shards):
            path = folder / index_file(shard.file)
            starts = np.array(_map(path, np.dtype("<u8"), shard.documents + 1)).astype(np.int64)
            if starts[0] != 0 or starts[-1] != shard.tokens or (np.diff(starts) < 0).any():
                raise DamagedArtifactError(f"{path} does not fit {shard.file}; make the tokens anew")
            last = number == len(self._meta.shards) - 1
            parts.append((starts if last else starts[:-1]) + self._starts[number])
        return np.concatenate(parts)


def _map(path: Path, dtype: np.dtype[np.unsignedinteger], count: int) -> NDArray[np.unsignedinteger]:
    """The file as an array of ``count`` items, not read yet."""
    wanted = count * dtype.itemsize
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise DamagedArtifactError(f"{path} is missing; make the tokens anew") from None
    if found != wanted:
        fault = "is cut short" if found < wanted else "is too long"
        raise DamagedArtifactError(f"{path} {fault}: {found:,} bytes, not {wanted:,}; make the tokens anew")
    return np.memmap(path, dtype, mode="r") if count else np.empty(0, dtype)


class PackedWindows:
    """The split cut into windows of ``context_length`` + 1 tokens.

    Neighbours share one token, the last target of one is the first input of the next; so every token but the
    split's very first is a target exactly once. What is left after the last whole window is not used (``tail``).
    """

    def __init__(self, shards: TokenShards, context_length: int) -> None:
        """
        Raises:
            ArrieroError: the split is shorter than one window.
        """
        if context_length < 1:
            raise ArrieroError(f"context_length should be at least 1, not {context_length}")
        self._shards = shards
        self.context_length = context_length
        self._n_windows = max(shards.n_tokens - 1, 0) // context_length
        if self._n_windows == 0:
            raise ArrieroError(
                f"{shards.n_tokens:,} tokens do not fill one window of {context_length} + 1;"
                " give more text or a shorter context_length"
            )

    def __len__(self) -> int:
        return self._n_windows

    @property
    def tail(self) -> int:
        """Tokens at the end of the split that no window takes."""
        return self._shards.n_tokens - 1 - self._n_windows * self.context_length

    def __getitem__(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(ids int64[T+1], segments int64[T+1]); segments number the window's documents from 0."""
        ids, segments = self.batch([index])
        return ids[0], segments[0]

    def batch(self, indices: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(ids int64[B, T+1], segments int64[B, T+1]) of several windows."""
        starts = np.asarray(indices, dtype=np.int64) * self.context_length
        if starts.size and not (starts.min() >= 0 and starts.max() < self._n_windows * self.context_length):
            raise IndexError(f"window outside of the {self._n_windows} there are")
        span = self.context_length + 1
        ids = np.stack([self._shards.tokens(int(start), int(start) + span) for start in starts])
        positions = starts[:, None] + np.arange(span)
        documents = np.searchsorted(self._shards.documents_starts, positions, side="right") - 1
        return ids, (documents - documents[:, :1]).astype(np.int64)
