"""Decoding token by token: text comes out as soon as its bytes are whole."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer


class StreamDecoder:
    """Turns a stream of ids into text that is never half a character.

    ``"".join(push(id) for id in ids) + finish()`` equals ``tokenizer.decode(ids)``.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.special_ids.values()) if skip_special else frozenset()
        self._join = tokenizer.pieces.joiner()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int, *, named: bool = False) -> str:
        """The text that is complete now; empty while a character is still missing bytes.

        ``named``: of a special token its name, whether or not those are skipped.
        """
        if id in self._special and not named:
            return ""
        return self._decoder.decode(self._join(self._tokenizer.token_bytes(id)))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)
