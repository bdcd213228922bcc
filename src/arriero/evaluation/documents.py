"""Held-out documents: which ones are scored, and how many bytes of text each stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arriero.data.shards import TokenShards, read_meta
from arriero.data.tokenize import tokenizer_folder
from arriero.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Documents:
    """Token ids of documents (BOS and EOS included) and the UTF-8 bytes of each one's text."""

    ids: list[Ids]
    bytes: Ids

    @property
    def n_tokens(self) -> int:
        return sum(len(ids) for ids in self.ids)


def chosen_documents(n_documents: int, most: int) -> list[int]:
    """Numbers of the documents that are scored: all, or ``most`` of them spread evenly over the split (0 = all).

    Spread, because neighbours in a split often come from one source.
    """
    if not most or n_documents <= most:
        return list(range(n_documents))
    return [int(i) for i in np.linspace(0, n_documents - 1, most).round()]


def load_documents(tokens: Path, split: str, most: int) -> Documents:
    """The chosen documents of a tokens artifact, as its own tokenizer made them."""
    shards = TokenShards.open(tokens, split)
    ids = [shards.document(i) for i in chosen_documents(shards.n_documents, most)]
    return Documents(ids, count_bytes(Tokenizer.load(tokenizer_folder(tokens)), ids))


def count_bytes(tokenizer: Tokenizer, documents: Sequence[Ids]) -> Ids:
    """UTF-8 bytes of the text of each document [n]; special tokens stand for none."""
    return np.asarray([len(tokenizer.decode_bytes(ids.tolist())) for ids in documents], np.int64)


def in_vocabulary_of(own: Tokenizer, documents: Documents, tokens: Path) -> Documents:
    """The same texts as the model's own tokenizer encodes them; unchanged where the tokenizers are one.

    Bits per byte compare models over different vocabularies, because the bytes are the same.
    """
    if own.fingerprint == read_meta(tokens).tokenizer:
        return documents
    given = Tokenizer.load(tokenizer_folder(tokens))
    encoded = own.encode_batch([given.decode(ids.tolist()) for ids in documents.ids])
    return Documents([np.asarray([own.bos_id, *ids, own.eos_id]) for ids in encoded], documents.bytes)


def training_documents(tokens: Path, most_tokens: int) -> Iterator[Ids]:
    """Documents of the training split in order, until they hold ``most_tokens`` tokens together (0 = all)."""
    shards = TokenShards.open(tokens, "train")
    taken = 0
    for i in range(shards.n_documents):
        document = shards.document(i)
        if most_tokens and taken and taken + len(document) > most_tokens:
            return
        taken += len(document)
        yield document
