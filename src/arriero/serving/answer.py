"""What the answers of all endpoints share: identity, usage, and tokens with their log-probabilities."""

from __future__ import annotations

import codecs
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arriero.inference.request import Event, TokenLogprob
from arriero.serving.ticket import Piece

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

FLOOR = -9999.0
"""OpenAI's log-probability of what cannot come: JSON has no minus infinity."""


@dataclass
class Usage:
    """Tokens read and written; an end token counts as written.

    Attributes:
        n: answers to each prompt. cost: what the request cost so far, as JSON; None leaves it out.
    """

    prompt_tokens: int
    n: int = 1
    cost: Callable[[], dict[str, Any]] | None = None
    completion_tokens: int = 0
    cached_tokens: int = 0

    def count(self, piece: Piece) -> None:
        """Take a piece in. What a prompt's answers share of it is counted once, as the prompt is."""
        self.completion_tokens += piece.tokens
        if piece.index % self.n == 0:
            self.cached_tokens += piece.cached_tokens

    def told(self) -> dict[str, Any]:
        """The usage in OpenAI's words."""
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
        return usage if self.cost is None else usage | {"cost": self.cost()}


@dataclass
class Head:
    """What every body of one answer begins with."""

    model: str
    prefix: str
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = self.id or new_id(self.prefix)

    def told(self, kind: str) -> dict[str, Any]:
        """The fields, for a body of this kind."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def new_id(prefix: str) -> str:
    """A fresh identity, such as ``chatcmpl-5f...``."""
    return f"{prefix}{secrets.token_hex(12)}"


def token_content(tokenizer: Tokenizer, steps: list[Event]) -> list[dict[str, Any]]:
    """Tokens with their log-probabilities as chat completions and responses show them."""
    return [
        {
            **_token(tokenizer, step.token_id, step.logprob),
            "top_logprobs": [_token(tokenizer, t.token_id, t.logprob) for t in step.top],
        }
        for step in steps
        if step.token_id is not None and step.logprob is not None
    ]


def _token(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token_id)
    return {"token": raw.decode("utf-8", "replace"), "logprob": max(logprob, FLOOR), "bytes": list(raw)}


class TokenList:
    """Tokens with their log-probabilities as completions show them: four lists, with offsets into the text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0
        self._special = frozenset(tokenizer.special_ids.values())

    def add(self, tokens: list[tuple[int, float | None, tuple[TokenLogprob, ...]]]) -> dict[str, Any]:
        """The lists of the next tokens: (id, log-probability, best ones) each."""
        names, offsets, logprobs, tops = [], [], [], []
        for token_id, logprob, top in tokens:
            names.append(self._name(token_id))
            offsets.append(self._characters)
            logprobs.append(None if logprob is None else max(logprob, FLOOR))
            tops.append(None if logprob is None else self._best(token_id, logprob, top))
            if token_id not in self._special:  # their names are not in the text
                self._characters += len(self._decoder.decode(self._tokenizer.token_bytes(token_id)))
        return {"text_offset": offsets, "token_logprobs": logprobs, "tokens": names, "top_logprobs": tops}

    def _best(self, token_id: int, logprob: float, top: tuple[TokenLogprob, ...]) -> dict[str, float]:
        """The best tokens by name, and always the one that came, as OpenAI's do."""
        best: dict[str, float] = {}
        for other in top:
            best.setdefault(self._name(other.token_id), max(other.logprob, FLOOR))
        best.setdefault(self._name(token_id), max(logprob, FLOOR))
        return best

    def _name(self, token_id: int) -> str:
        """The token's text; bytes that are no text are written as OpenAI writes them, ``bytes:\\xe2\\x80``."""
        raw = self._tokenizer.token_bytes(token_id)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
