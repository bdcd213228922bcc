"""The answers of `/v1/chat/completions`, in OpenAI's shapes."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from arriero.inference.request import Event

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer


@dataclass
class Answer:
    """One answer on its way out: its identity, and what has to be counted."""

    model: str
    tokenizer: Tokenizer
    prompt_tokens: int
    with_logprobs: bool
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    completion_tokens: int = 0

    def count(self, event: Event) -> None:
        """Take a token into the usage."""
        self.completion_tokens += event.token_id is not None

    def usage(self) -> dict[str, Any]:
        """Tokens read and written; the end token counts as written."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    def whole(self, events: list[Event]) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": "".join(e.text for e in events), "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self.logprobs(events),
            "finish_reason": events[-1].finish_reason,
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage()}

    def chunk(self, delta: dict[str, Any], events: list[Event], reason: str | None) -> dict[str, Any]:
        """One piece of a stream."""
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": self.logprobs(events) if events else None,
            "finish_reason": reason,
        }
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage_chunk(self) -> dict[str, Any]:
        """The last piece of a stream when the client asked for the usage."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def logprobs(self, events: list[Event]) -> dict[str, Any] | None:
        """The log-probabilities of the tokens, or None when they were not asked for."""
        if not self.with_logprobs:
            return None
        content = [
            {
                **self._token(event.token_id, event.logprob),
                "top_logprobs": [self._token(t.token_id, t.logprob) for t in event.top],
            }
            for event in events
            if event.token_id is not None and event.logprob is not None
        ]
        return {"content": content, "refusal": None}

    def _token(self, token_id: int, logprob: float) -> dict[str, Any]:
        raw = self.tokenizer.token_bytes(token_id)
        # OpenAI's floor: JSON has no minus infinity
        return {"token": raw.decode("utf-8", "replace"), "logprob": max(logprob, -9999.0), "bytes": list(raw)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}
