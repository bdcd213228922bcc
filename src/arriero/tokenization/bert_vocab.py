"""BERT's `vocab.txt`: one WordPiece a line, the id is the line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from arriero.errors import ArrieroError
from arriero.tokenization.build import wordpiece
from arriero.tokenization.tokenizer import Tokenizer

BERT_NAMES = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def from_vocab(pieces: Sequence[str], lowercase: bool | None = None) -> Tokenizer:
    """The WordPiece tokenizer of a vocabulary; ``lowercase`` None: as the vocabulary looks.

    Raises:
        ArrieroError: it has no [UNK], [CLS] or [SEP].
    """
    vocab: dict[str, int] = {}
    for id, piece in enumerate(pieces):
        if piece in vocab:
            raise ArrieroError(
                f"the piece '{piece}' is in the vocabulary twice (lines {vocab[piece] + 1} and {id + 1})"
            )
        vocab[piece] = id
    return wordpiece(vocab, lowercase=_uncased(pieces) if lowercase is None else lowercase, names=BERT_NAMES)


def _uncased(pieces: Sequence[str]) -> bool:
    """A vocabulary without words in capitals was made from lower-cased text."""
    return not any(re.fullmatch("[A-Z][A-Za-z]+", piece) for piece in pieces)
