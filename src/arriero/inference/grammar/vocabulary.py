"""A tokenizer's vocabulary as the grammar library takes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

MARKS = ("[TOOL_CALLS]", "[ARGS]")
"""Special tokens that a grammar may ask for by :func:`mark_name`: words around calls of functions."""
END = b"\xff<|end|>"
"""How the library is told of a token that is no text: no UTF-8 text holds the byte 0xFF."""


def mark_name(mark: str) -> str:
    """One of MARKS as grammars in Lark's notation name it."""
    return f"<|{mark.strip('[]').lower()}|>"


class GrammarVocabulary:
    """The bytes of every token, and which may never be generated under a grammar.

    Special tokens and gaps have no bytes, so that no grammar produces them; the end tokens end an answer, and the
    MARKS come where a grammar names them. A
    tokenizer that puts a space before a text drops it again from the front of an answer; so the first token
    is also known without its space, under an id past the vocabulary (``bare``).

    Attributes:
        size: number of ids of the tokenizer.
        ends: int64 ids that end an answer.
        plain: bool ``[size]``, False for special tokens but the MARKS, and for gaps.
        spaced, bare: int64, ids that begin with the space that is dropped, and their ids without it.
        silent: int64, ids that are nothing but that space.
    """

    def __init__(self, tokenizer: Tokenizer, end_ids: Iterable[int]) -> None:
        """Raises:
        ArrieroError: the grammar library is not installed, or words of the tokenizer end with their space.
        """
        if tokenizer.pieces.last_space:
            raise ArrieroError(
                "a grammar cannot steer this tokenizer: its words end with their space, and the last one is dropped"
            )
        self.tokenizer = tokenizer
        self.size = tokenizer.vocab_size
        special = set(tokenizer.special_ids.values()) | set(end_ids)
        marks = {tokenizer.special_ids[m]: m for m in MARKS if m in tokenizer.special_ids}
        texts = [b"" if i in special else tokenizer.token_bytes(i) for i in range(self.size)]
        self.ends = np.array(sorted(set(end_ids)), dtype=np.int64)
        for mark, name in marks.items():
            texts[mark] = b"\xff" + mark_name(name).encode()
        self.plain = np.array([bool(text) for text in texts], dtype=bool)
        leading = (
            [i for i, text in enumerate(texts) if text[:1] == b" "] if tokenizer.pieces.first_space else []
        )
        self.spaced = np.array([i for i in leading if len(texts[i]) > 1], dtype=np.int64)
        self.silent = np.array([i for i in leading if len(texts[i]) == 1], dtype=np.int64)
        self.bare = self.size + np.arange(len(self.spaced), dtype=np.int64)
        self._bare_of = dict(zip(self.spaced.tolist(), self.bare.tolist(), strict=True))
        self._silent = frozenset(self.silent.tolist())
        texts += [texts[i][1:] for i in self.spaced]
        for end in self.ends:
            texts[end] = END
        self.library = _library_tokenizer(texts, self.ends.tolist(), [*marks], self._tokenise)

    @property
    def words(self) -> int:
        """Number of 32-bit words of the library's bit mask."""
        return (self.size + len(self.bare) + 31) // 32

    def first(self, token: int) -> int | None:
        """The id under which the library knows a token at the start of an answer; None if it says nothing."""
        return None if token in self._silent else self._bare_of.get(token, token)

    def allowed(self, bits: NDArray[np.int32], *, start: bool) -> NDArray[np.bool_]:
        """Which ids may come next, bool ``[size]``, from the library's bit mask; the end tokens not among them."""
        flags = np.unpackbits(bits.view(np.uint8), bitorder="little").view(bool)
        allowed = flags[: self.size] & self.plain
        if start:
            allowed[self.silent] = allowed.any()
            allowed[self.spaced] = flags[self.bare]
        return allowed

    def _tokenise(self, text: str | bytes) -> list[int]:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return self.tokenizer.encode_continuation(text)


def _library_tokenizer(texts: list[bytes], ends: list[int], marks: list[int], encode: Any) -> Any:
    from arriero.inference.grammar.library import llguidance

    class Wrapper:
        """The attributes that the library reads."""

        is_tokenizer_wrapper = True
        eos_token_id, bos_token_id = ends[0], None
        special_token_ids, tokens = [*ends, *marks], texts

        def __call__(self, text: str | bytes) -> list[int]:
            return [int(i) for i in encode(text)]

    return llguidance().LLTokenizer(Wrapper(), n_vocab=len(texts), eos_token=ends)
