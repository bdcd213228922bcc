"""The answers of `/v1/chat/completions`, in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arriero.serving.answer import Head, Usage, token_content
from arriero.serving.reader import Part, Reader, Said, text_of
from arriero.serving.ticket import Piece
from arriero.serving.tool_reader import delta_of, message_of

if TYPE_CHECKING:
    from arriero.tokenization.tokenizer import Tokenizer

CHUNK = "chat.completion.chunk"
Json = dict[str, Any]


@dataclass
class ChatAnswer:
    """The answers to one conversation; each has a reader of its own."""

    head: Head
    usage: Usage
    tokenizer: Tokenizer
    readers: Sequence[Reader]
    with_logprobs: bool

    def whole(self, pieces: list[Piece]) -> Json:
        """The body of an answer that is not streamed."""
        choices = [self._choice(i, [p for p in pieces if p.index == i]) for i in range(len(self.readers))]
        return {**self.head.told("chat.completion"), "choices": choices, "usage": self.usage.told()}

    def _choice(self, index: int, pieces: list[Piece]) -> Json:
        parts = [part for piece in pieces for part in self._read(piece)]
        return {
            "index": index,
            "message": {"role": "assistant", "refusal": None, **message_of(parts)},
            "logprobs": self._logprobs([s for p in pieces for s in p.steps]),
            "finish_reason": self._reason(pieces[-1]),
        }

    def opening(self) -> Iterator[Json]:
        """The chunks that begin a stream: one for each answer."""
        for index in range(len(self.readers)):
            yield self._chunk(index, {"role": "assistant", "content": ""}, None, None)

    def chunks(self, piece: Piece) -> Iterator[Json]:
        """The chunks of a stream that a piece makes."""
        parts = self._read(piece)
        logprobs = self._logprobs(piece.steps) if piece.steps else None
        if logprobs is not None and not parts:
            yield self._chunk(piece.index, {"content": ""}, logprobs, None)
        for number, part in enumerate(_merged(parts)):
            yield self._chunk(piece.index, delta_of(part), None if number else logprobs, None)
        if piece.finish_reason is not None:
            yield self._chunk(piece.index, {}, None, self._reason(piece))

    def usage_chunk(self) -> Json:
        """The last chunk when the client asked for the usage."""
        return {**self.head.told(CHUNK), "choices": [], "usage": self.usage.told()}

    def _read(self, piece: Piece) -> list[Part]:
        self.usage.count(piece)
        return self.readers[piece.index].push(piece.text, last=piece.finish_reason is not None)

    def _reason(self, piece: Piece) -> str | None:
        """An answer that came to its end with a call ended for it."""
        called = self.readers[piece.index].called
        return "tool_calls" if called and piece.finish_reason == "stop" else piece.finish_reason

    def _logprobs(self, steps: list[Any]) -> Json | None:
        if not self.with_logprobs:
            return None
        return {"content": token_content(self.tokenizer, steps), "refusal": None}

    def _chunk(self, index: int, delta: Json, logprobs: Json | None, reason: str | None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self.head.told(CHUNK), "choices": [choice]}


def _merged(parts: list[Part]) -> list[Part]:
    """The parts, with all text in one: it always comes before the calls."""
    text = text_of(parts)
    return [*([Said(text)] if text else []), *(part for part in parts if not isinstance(part, Said))]
