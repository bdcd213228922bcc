"""What the pieces of a vocabulary stand for: the bytes of each, by the kind of tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from arriero.tokenization.byte_level import token_to_bytes

Kind = Literal["byte_level", "metaspace", "wordpiece", "suffix", "words"]

SPACE = "▁"
"""SentencePiece's mark for a space (U+2581)."""
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_NO_SPACE_BEFORE = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"}
"""Pieces that BERT's decoder joins to the word before them, as the `tokenizers` library does when it cleans up."""


@dataclass(frozen=True)
class Pieces:
    """How a tokenizer writes bytes as pieces.

    A text is the bytes of its pieces in a row, less one space that some kinds put before the first word
    (``first_space``) or after the last one (``last_space``).
    """

    kind: Kind
    first_space: bool = False
    last_space: bool = False
    prefix: str = "##"
    suffix: str = "</w>"

    @classmethod
    def of(cls, definition: dict[str, Any]) -> Pieces:
        """Read off the decoder of a tokenizer.json."""
        decoders = {step["type"]: step for step in _steps(definition.get("decoder"), "decoders")}
        if "ByteLevel" in decoders:
            return cls("byte_level")
        if "WordPiece" in decoders:
            return cls("wordpiece", first_space=True, prefix=decoders["WordPiece"].get("prefix", "##"))
        if "BPEDecoder" in decoders:
            return cls("suffix", last_space=True, suffix=decoders["BPEDecoder"].get("suffix", "</w>"))
        if "Metaspace" in decoders:
            step = decoders["Metaspace"]
            scheme = step.get("prepend_scheme") or ("always" if step.get("add_prefix_space") else "never")
            return cls("metaspace", first_space=scheme != "never")
        if decoders:
            return cls("metaspace", first_space=decoders.get("Strip", {}).get("start", 0) > 0)
        return cls("words", first_space=True)

    def bytes_of(self, piece: str) -> bytes:
        """The bytes of a piece inside a text."""
        match self.kind:
            case "byte_level":
                return token_to_bytes(piece)
            case "metaspace":
                byte = _BYTE.fullmatch(piece)
                return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()
            case "suffix":
                return (
                    (piece.removesuffix(self.suffix) + " ") if piece.endswith(self.suffix) else piece
                ).encode()
            case "wordpiece":
                if piece.startswith(self.prefix):
                    return piece.removeprefix(self.prefix).encode()
                return piece.encode() if piece in _NO_SPACE_BEFORE else f" {piece}".encode()
            case "words":
                return f" {piece}".encode()

    def bytes_of_added(self, piece: str) -> bytes:
        """The bytes of an added token, which is written as it is."""
        return f" {piece}".encode() if self.kind in ("wordpiece", "words") else piece.encode()

    def join(self, parts: Iterable[bytes]) -> bytes:
        """The text of pieces in a row."""
        text = b"".join(parts)
        text = text[1:] if self.first_space and text[:1] == b" " else text
        return text[:-1] if self.last_space and text[-1:] == b" " else text

    def joiner(self) -> Callable[[bytes], bytes]:
        """The same piece by piece: call it with each part, and it gives what can go out."""
        started, held = not self.first_space, b""

        def push(part: bytes) -> bytes:
            nonlocal started, held
            if part and not started:
                started, part = True, part[1:] if part[:1] == b" " else part
            if part and self.last_space:
                whole, held = held + part, b""
                part, held = (whole[:-1], b" ") if whole[-1:] == b" " else (whole, b"")
            return part

        return push


def without_first_space(definition: dict[str, Any], schemes: tuple[str, ...]) -> dict[str, Any] | None:
    """A tokenizer.json that puts no space before a text; None when it never does.

    Args:
        schemes: which of "first" (only at the start of a whole text) and "always" (of each stretch) are taken out.
    """
    changed = False
    for step in _steps(definition.get("pre_tokenizer"), "pretokenizers"):
        scheme = step.get("prepend_scheme") or ("always" if step.get("add_prefix_space") else "never")
        if step["type"] in ("Metaspace", "ByteLevel") and scheme in schemes:
            step.update(
                {"prepend_scheme": "never"} if "prepend_scheme" in step else {"add_prefix_space": False}
            )
            changed = True
    if "always" in schemes:
        for step in _steps(definition.get("normalizer"), "normalizers"):
            if step["type"] == "Prepend" and step["prepend"] == SPACE:
                step["prepend"], changed = "", True
    return definition if changed else None


def _steps(step: dict[str, Any] | None, key: str) -> Iterator[dict[str, Any]]:
    """The steps of a decoder, normalizer or pre-tokenizer of a tokenizer.json, sequences laid flat."""
    if step and step.get("type") == "Sequence":
        for inner in step[key]:
            yield from _steps(inner, key)
    elif step:
        yield step
