"""SentencePiece's `.model` files (BPE and unigram) as tokenizers.

The file is one protobuf message (sentencepiece_model.proto): pieces with scores, how it was trained, how text is
normalised.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from arriero.errors import ArrieroError
from arriero.tokenization.build import prefix_space, sentencepiece_bpe, spaces, unigram
from arriero.tokenization.protobuf import bytes_of, fields, float_of, signed, text_of
from arriero.tokenization.tokenizer import Tokenizer


class PieceType(IntEnum):
    """Kinds of piece, numbered as in the file (GGUF numbers them alike)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


UNIGRAM, BPE = 1, 2


@dataclass
class SentencePieces:
    """What a `.model` holds, as far as encoding needs it."""

    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    """(text, score, PieceType) by id"""
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    suffix_space: bool = False
    ids: dict[str, int] = field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})
    charsmap: bytes = b""
    """Normalisation rules, compiled; empty for identity."""
    prefix_space: bool = True
    trim_spaces: bool = True
    escape_spaces: bool = True


def parse_model(data: bytes) -> SentencePieces:
    """Read a `.model`.

    Raises:
        ArrieroError: it is not one, or damaged.
    """
    model = SentencePieces()
    try:
        for number, value in fields(data):
            if number == 1:
                model.pieces.append(_piece(bytes_of(value)))
            elif number == 2:
                _read_trainer(bytes_of(value), model)
            elif number == 3:
                _read_normalizer(bytes_of(value), model)
    except (ValueError, UnicodeDecodeError) as error:
        raise ArrieroError(f"it is no SentencePiece model: {error}") from None
    if not any(kind == PieceType.UNKNOWN for _, _, kind in model.pieces):
        raise ArrieroError("it is no SentencePiece model: it has no unknown piece")
    return model


def _piece(data: bytes) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, int(PieceType.NORMAL)
    for number, value in fields(data):
        if number == 1:
            text = text_of(value)
        elif number == 2:
            score = float_of(value)
        elif number == 3:
            kind = signed(value)
    return text, score, kind


def _read_trainer(data: bytes, model: SentencePieces) -> None:
    named = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}
    for number, value in fields(data):
        if number == 3:
            model.model_type = signed(value)
        elif number == 24:
            model.suffix_space = bool(value)
        elif number == 35:
            model.byte_fallback = bool(value)
        elif number in named:
            model.ids[named[number]] = signed(value)


def _read_normalizer(data: bytes, model: SentencePieces) -> None:
    for number, value in fields(data):
        if number == 2:
            model.charsmap = bytes_of(value)
        elif number == 3:
            model.prefix_space = bool(value)
        elif number == 4:
            model.trim_spaces = bool(value)
        elif number == 5:
            model.escape_spaces = bool(value)


def to_tokenizer(model: SentencePieces) -> Tokenizer:
    """The tokenizer of a SentencePiece model; ids are its own.

    Raises:
        ArrieroError: it works on whole words or characters, or marks spaces in a way we do not have.
    """
    if model.model_type not in (BPE, UNIGRAM):
        raise ArrieroError(
            "the SentencePiece model splits into words or characters; BPE and unigram are known"
        )
    if model.suffix_space or not model.escape_spaces:
        raise ArrieroError("the SentencePiece model writes spaces in an unusual way (suffix or not escaped)")
    texts = [text for text, _, _ in model.pieces]
    specials = {
        text: id
        for id, (text, _, kind) in enumerate(model.pieces)
        if kind in (PieceType.CONTROL, PieceType.UNKNOWN)
    }
    names = {
        f"{key}_token": texts[id]
        for key, id in model.ids.items()
        if 0 <= id < len(texts) and texts[id] in specials
    }
    common: dict[str, Any] = {
        "byte_fallback": model.byte_fallback or any(kind == PieceType.BYTE for _, _, kind in model.pieces),
        "normalizer": _normalizer(model),
        "first_space": model.prefix_space,
        "added": [text for text, _, kind in model.pieces if kind == PieceType.USER_DEFINED],
    }
    if model.model_type == UNIGRAM:
        scored = [(text, score) for text, score, _ in model.pieces]
        unknown = next(i for i, (_, _, kind) in enumerate(model.pieces) if kind == PieceType.UNKNOWN)
        never = [
            text for text, _, kind in model.pieces if kind not in (PieceType.NORMAL, PieceType.USER_DEFINED)
        ]
        return unigram(scored, specials, names, unknown=unknown, never_in_text=never, **common)
    vocab = {text: id for id, text in enumerate(texts)}
    unknown_text = next(text for text, _, kind in model.pieces if kind == PieceType.UNKNOWN)
    return sentencepiece_bpe(vocab, merges_of(model.pieces), specials, names, unknown=unknown_text, **common)


def merges_of(pieces: Sequence[tuple[str, float, int]]) -> list[tuple[str, str]]:
    """Merges that build the pieces: every way to cut a piece into two others, the highest score first.

    SentencePiece merges whatever two neighbours make the piece with the highest score.
    """
    ids = {text: id for id, (text, _, kind) in enumerate(pieces) if kind == PieceType.NORMAL}
    found: list[tuple[float, int, int, int]] = []
    for text, id in ids.items():
        for cut in range(1, len(text)):
            left, right = ids.get(text[:cut]), ids.get(text[cut:])
            if left is not None and right is not None:
                found.append((-pieces[id][1], id, left, right))
    return [(pieces[left][0], pieces[right][0]) for _, _, left, right in sorted(found)]


def _normalizer(model: SentencePieces) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if model.charsmap:
        steps.append({
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(model.charsmap).decode(),
        })  # fmt: skip
    if model.trim_spaces:
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return [*steps, *(prefix_space() if model.prefix_space else [spaces()])]
